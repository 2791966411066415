"""The embedded pictures: handwritten digits, small in the clutter of a photograph. Pure functions of integers."""

from __future__ import annotations

import colorsys
import math
from functools import cache
from typing import Literal, NamedTuple, TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from visattn.data.images import Picture
from visattn.data.seeding import stable_hash, stable_order

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SMALLEST = 64  # pixels; at 48 the smallest digits are 14 pixels high and no longer safely read
SMALLEST_FIELD = 96  # of a picture with several digits, for the same reason

_Plane: TypeAlias = NDArray[np.float32]
_Box: TypeAlias = tuple[float, float, float, float]  # xyxy in pixels

_GLYPH = 40  # side of an enlarged digit with its margin; the 8x8 original covers 32 of it
_SHARES = (0.70, 0.85, 1.0)  # of each class's 180 or so digits: up to here train, val, test
_DIM = (0.2, 0.5)  # brightness that is left to the photograph
_STROKES, _FRAGMENTS = (1, 3), (1, 3)  # how many of each, at least and at most
_FRAGMENT_SCALE = (0.2, 0.35)  # likewise, of a fragment
_SCALE = (0.42, 0.7)  # height of a digit (of its margin box), in picture sides
_COUNTS = (0, *(1, 2, 3) * 4)  # of digits in a picture of several, drawn among these: one in thirteen is empty
_FIELD_SCALE = (0.28, 0.45)  # height of one of several digits
_TRIES = 20  # at a free place for a digit, before it is left out
_TONES = ((0.9, 1.0), (0.6, 1.0), (0.3, 1.0))  # saturation and value: full, bright, pale
_COLOURS = 255 * np.array([colorsys.hsv_to_rgb(hue / 16, *tone) for tone in _TONES for hue in range(16)], np.float32)
_CONTRAST = 110.0  # RGB distance of the digit's colour from nearly all that lies behind and around it


class Scene(NamedTuple):
    """One picture with all that is known about it."""

    image: Picture  # (S, S, 3)
    label: int
    mask: NDArray[np.bool_]  # (S, S): where the digit is
    box: _Box  # tight around the mask


class Field(NamedTuple):
    """One picture with several digits, or none, that do not touch."""

    image: Picture  # (S, S, 3)
    labels: NDArray[np.int64]  # (n,)
    masks: NDArray[np.bool_]  # (n, S, S): where each digit is
    boxes: NDArray[np.float32]  # (n, 4): xyxy in pixels, tight around the masks


@cache
def _glyphs() -> tuple[_Plane, NDArray[np.int64]]:
    """Return scikit-learn's digits enlarged to ``(n, 40, 40)`` in 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.pad(digits.images.astype(np.float32) / 16, ((0, 0), (1, 1), (1, 1)))
    large = [cv2.resize(one, (_GLYPH, _GLYPH), interpolation=cv2.INTER_CUBIC) for one in small]
    return np.clip(np.stack(large), 0, 1, dtype=np.float32), digits.target.astype(np.int64)


@cache
def _photographs() -> tuple[tuple[Picture, ...], ...]:
    """Return scikit-learn's two sample photographs at 427x640, a half and a quarter of it."""
    from sklearn.datasets import load_sample_image

    pyramids = []
    for name in ("china.jpg", "flower.jpg"):
        levels = [np.ascontiguousarray(load_sample_image(name))]
        for _ in range(2):
            levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        pyramids.append(tuple(levels))
    return tuple(pyramids)


def _below(rng: np.random.Generator, limit: int) -> int:
    # a tenth of the time of rng.integers, of which a picture would need fifty
    return int(rng.random() * limit)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _among(rng: np.random.Generator, least: int, most: int) -> int:
    return least + _below(rng, most - least + 1)


def _paint(image: Picture, alpha: _Plane, colour: _Plane, left: int, top: int) -> None:
    """Lay ``colour`` on ``image`` in place, as thick as ``alpha``."""
    height, width = alpha.shape
    region = image[top : top + height, left : left + width]
    region[:] = region + (colour - region) * alpha[:, :, None] + 0.5


def _warp(glyph: _Plane, side: int, degrees: float, shear: float) -> _Plane:
    """Return ``glyph`` turned and slanted on a ``side x side`` plane, its soft edges sharpened."""
    turn, scale = math.radians(degrees), side / _GLYPH
    a, b, c, d = (scale * one for one in (math.cos(turn), math.sin(turn) + shear, -math.sin(turn), math.cos(turn)))
    old, new = (_GLYPH - 1) / 2, (side - 1) / 2  # the centres meet
    matrix = np.array([[a, b, new - (a + b) * old], [c, d, new - (c + d) * old]])
    plane = cv2.warpAffine(glyph, matrix, (side, side), flags=cv2.INTER_LINEAR)
    # a steep ramp through 0.45: edges of about a pixel at any scale
    return np.minimum(np.maximum((plane - 0.3) * np.float32(3.3), 0), 1)


@final
class SceneMaker:
    """Draw pictures of digits in clutter, each from ``(data_seed, split, index)`` alone.

    Splits use different source digits. In a picture of one digit labels go round: ``index % 10``.

    Args:
        size: side of the square pictures in pixels.
        data_seed: draws everything.

    Example:
        >>> scene = SceneMaker(64).draw("train", 7)
        >>> scene.image.shape, scene.label
        ((64, 64, 3), 7)
    """

    def __init__(self, size: int, data_seed: int = 0) -> None:
        self.size = size
        self._seed = data_seed
        _, labels = _glyphs()
        self._sources: dict[tuple[str, int], NDArray[np.int64]] = {}
        for label in range(10):
            own = np.flatnonzero(labels == label)
            own = own[stable_order(len(own), data_seed, label)]
            parts = np.split(own, [round(share * len(own)) for share in _SHARES[:2]])
            self._sources |= {(split, label): part for split, part in zip(SPLITS, parts, strict=True)}

    def sources(self, split: Split) -> set[int]:
        """Return which of scikit-learn's digits ``split`` is made of."""
        return {int(one) for label in range(10) for one in self._sources[split, label]}

    def draw(self, split: Split, index: int) -> Scene:
        """Return picture ``index`` of ``split``."""
        rng = np.random.Generator(np.random.PCG64(stable_hash(self._seed, SPLITS.index(split), index)))
        label = index % 10
        image = self._background(rng)
        for _ in range(_among(rng, *_STROKES)):
            self._stroke(image, rng)
        for _ in range(_among(rng, *_FRAGMENTS)):
            self._fragment(image, rng, split)
        glyph = self._pick(rng, split, label)
        side = round(self.size * _between(rng, *_SCALE))
        left, top = (_below(rng, self.size - side + 1) for _ in range(2))
        return self._digit(image, rng, glyph, label, side, left, top)

    def draw_field(self, split: Split, index: int) -> Field:
        """Return picture ``index`` of ``split`` in the form with up to three digits, of any label, or none."""
        rng = np.random.Generator(np.random.PCG64(stable_hash(self._seed, SPLITS.index(split), index, 1)))
        image = self._background(rng)
        for _ in range(_among(rng, *_STROKES)):
            self._stroke(image, rng)
        for _ in range(_among(rng, *_FRAGMENTS)):
            self._fragment(image, rng, split)
        scenes: list[Scene] = []
        for _ in range(_COUNTS[_below(rng, len(_COUNTS))]):
            label = _below(rng, 10)
            glyph = self._pick(rng, split, label)
            side = round(self.size * _between(rng, *_FIELD_SCALE))
            if place := self._free(rng, side, [scene.box for scene in scenes]):
                scenes.append(self._digit(image, rng, glyph, label, side, *place))
        labels, boxes = [scene.label for scene in scenes], [scene.box for scene in scenes]
        masks = np.array([scene.mask for scene in scenes], np.bool_).reshape(-1, self.size, self.size)
        return Field(image, np.array(labels, np.int64), masks, np.array(boxes, np.float32).reshape(-1, 4))

    def _background(self, rng: np.random.Generator) -> Picture:
        """Return a random crop of a photograph, mirrored or not."""
        size, levels = self.size, _photographs()[_below(rng, 2)]
        share = _between(rng, 1 / 6, 1 / 2)  # of the photograph's height
        # the smallest level that still has a pixel for each of the crop's: cheap, and little left to alias
        level = next((one for one in reversed(levels) if share * len(one) >= size), levels[0])
        height, width = level.shape[:2]
        side = int(share * height)
        top, left = _below(rng, height - side + 1), _below(rng, width - side + 1)
        crop = cv2.resize(level[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_LINEAR)
        crop = cv2.convertScaleAbs(crop, alpha=_between(rng, *_DIM))
        return cast("Picture", cv2.flip(crop, 1) if rng.random() < 0.5 else crop)

    def _stroke(self, image: Picture, rng: np.random.Generator) -> None:
        """Draw a line, an arc or a small shape of the thickness of a digit's strokes."""
        size = self.size
        tone = _COLOURS[_below(rng, len(_COLOURS))].tolist()
        thick = max(1, round(size * _between(rng, 0.02, 0.05)))
        x, y = _below(rng, size), _below(rng, size)
        wide, high = (round(size * _between(rng, 0.08, 0.25)) for _ in range(2))
        kind, side, angle = _below(rng, 3), 2 * _below(rng, 2) - 1, _between(rng, 0, 360)
        if kind == 0:
            cv2.line(image, (x, y), (x + side * wide, y + high), tone, thick, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(image, (x, y), (wide, high), angle, 0, 60 + angle / 3, tone, thick, cv2.LINE_AA)
        else:
            cv2.circle(image, (x, y), wide // 2, tone, thick if side < 0 else -1, cv2.LINE_AA)

    def _fragment(self, image: Picture, rng: np.random.Generator, split: Split) -> None:
        """Draw parts of two digits that together are none: halves exchanged, turned round."""
        one, other = (_glyphs()[0][self._pick(rng, split, _below(rng, 10))] for _ in range(2))
        half, empty = _GLYPH // 2, _GLYPH // 2 * _below(rng, 2)
        mixed = np.concatenate([other[half:], one[:half]])
        mixed[empty : empty + half, half:] = 0  # a quarter stays empty, lest a digit arises by chance
        side = round(self.size * _between(rng, *_FRAGMENT_SCALE))
        alpha = _warp(mixed, side, _between(rng, 0, 360), 0.0) * np.float32(_between(rng, 0.8, 1))
        left, top = (_below(rng, self.size - side + 1) for _ in range(2))
        _paint(image, alpha, _COLOURS[_below(rng, len(_COLOURS))], left, top)

    def _free(self, rng: np.random.Generator, side: int, taken: list[_Box]) -> tuple[int, int] | None:
        """Return left and top of a square that no box of ``taken`` touches, or None if none is found."""
        for _ in range(_TRIES):
            left, top = (_below(rng, self.size - side + 1) for _ in range(2))
            if all(left > x2 or top > y2 or left + side < x1 or top + side < y1 for x1, y1, x2, y2 in taken):
                return left, top
        return None

    def _digit(
        self, image: Picture, rng: np.random.Generator, source: int, label: int, side: int, left: int, top: int
    ) -> Scene:
        """Draw a digit last, so that nothing covers it, in a colour that stands out from what lies behind."""
        size, glyph = self.size, _glyphs()[0][source]
        alpha = _warp(glyph, side, _between(rng, -15, 15), _between(rng, -0.15, 0.15))
        inside = (alpha > 0.5).view(np.uint8)
        # how much of what lies behind and around is of nearly the same colour, for each colour: (48,)
        step = side // 8
        around = image[top : top + side : step, left : left + side : step].reshape(-1, 3).T.astype(np.float32)
        # channel by channel: numpy sums a last axis of three slowly
        distance = sum((one[:, None] - other) ** 2 for one, other in zip(around, _COLOURS.T, strict=True))
        drowned = np.count_nonzero(distance < _CONTRAST**2, axis=0) / around.shape[1]
        clear = np.flatnonzero(drowned <= max(0.03, drowned.min()))
        colour = _COLOURS[clear[_below(rng, len(clear))]]
        _paint(image, alpha * np.float32(_between(rng, 0.85, 1)), colour, left, top)
        mask = np.zeros((size, size), np.bool_)
        mask[top : top + side, left : left + side] = inside
        x, y, width, height = cv2.boundingRect(inside)
        return Scene(image, label, mask, (left + x, top + y, left + x + width, top + y + height))

    def _pick(self, rng: np.random.Generator, split: Split, label: int) -> int:
        sources = self._sources[split, label]
        return int(sources[_below(rng, len(sources))])
