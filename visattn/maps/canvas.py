"""What drawings are made of: a scale with its colours, text that fits, a colour bar."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from visattn.types import UsageError

Pixels: TypeAlias = NDArray[np.uint8]
Values: TypeAlias = NDArray[np.float64]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom lie outside

COLORS = "inferno"  # perceptual: equal steps in value look like equal steps, in grey too
PAPER, INK, LINE, SHADE = (255, 255, 255), (32, 33, 36), (218, 220, 224), (246, 247, 248)
UNKNOWN = (128, 134, 139)  # NaN: a grey that no value has
TEXT, SMALL = 14, 12  # font sizes in pixels
GAP, BAR = 8, 12  # margins; the width of a colour bar


class Scale(NamedTuple):
    """The range of values that the colours span, the same for all pictures that are to be compared."""

    low: float
    high: float

    def share(self, values: Any) -> Values:
        """Return where ``values`` lie on the scale, 0 to 1; NaN stays."""
        return ((np.asarray(values, np.float64) - self.low) / (self.high - self.low)).clip(0, 1)

    def level(self, value: float, box: Box) -> float:
        """Return the height of ``value`` in pixels in ``box``, low at its bottom."""
        return float(box[1] + (box[3] - box[1] - 1) * (1 - self.share(value)))

    def colors(self, values: Any) -> Pixels:
        """Return the colours of ``values``, ``(..., 3)``."""
        share = self.share(values)
        known = np.isfinite(share)
        index = (np.where(known, share, 0) * 255).round().astype(np.uint8)
        return np.where(known[..., None], palette()[index], np.array(UNKNOWN, np.uint8))

    def ticks(self) -> list[tuple[float, str]]:
        """Return the values marked on the scale, with their text."""
        return [(value, number(value)) for value in (self.low, (self.low + self.high) / 2, self.high)]

    def bar_width(self) -> int:
        """Return how wide the colour bar and its text are."""
        return BAR + GAP + max(text_width(tick, SMALL) for _, tick in self.ticks())

    def draw_bar(self, canvas: Image.Image, box: Box, shown: Values) -> None:
        """Draw the colour bar; the line beside it spans the values ``shown``, its dot is their mean."""
        left, top, right, bottom = box
        ramp = self.colors(np.linspace(self.high, self.low, bottom - top))[:, None].repeat(right - left, 1)
        canvas.paste(Image.fromarray(ramp), (left, top))
        draw = ImageDraw.Draw(canvas)
        known = shown[np.isfinite(shown)]
        if len(known):
            x = right + 3
            draw.line((x, self.level(known.max(), box), x, self.level(known.min(), box)), fill=INK)
            middle = self.level(known.mean(), box)
            draw.ellipse((x - 2, middle - 2, x + 2, middle + 2), fill=INK)
        self.draw_ticks(canvas, right + GAP, box)

    def draw_ticks(self, canvas: Image.Image, left: int, box: Box) -> None:
        """Write the ticks' values at ``left``, those at the ends of ``box`` moved inside."""
        draw = ImageDraw.Draw(canvas)
        for value, tick in self.ticks():
            _, above, _, below = font(SMALL).getbbox(tick)
            top = self.level(value, box) - (below - above) / 2
            top = min(max(top, box[1]), box[3] - (below - above))
            draw.text((left, top - above), tick, fill=INK, font=font(SMALL))


def scale(low: float, high: float) -> Scale:
    """Return the scale from ``low`` to ``high``.

    Raises:
        UsageError: ``low`` is not below ``high``.

    Example:
        >>> scale(0, 1).colors([0.0, float("nan")]).tolist()
        [[0, 0, 3], [128, 134, 139]]
    """
    if not low < high:
        raise UsageError(f"a scale needs low < high, got {low} and {high}")
    return Scale(float(low), float(high))


@lru_cache(maxsize=1)
def palette() -> Pixels:
    """Return the 256 colours from low to high."""
    return np.asarray(mpl.colormaps[COLORS](np.arange(256), bytes=True))[:, :3]


def array(value: Any) -> NDArray[Any]:
    """Return a NumPy array or a tensor, of whatever device and dtype, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    return np.asarray(value)


def number(value: float) -> str:
    """Return ``value`` in few characters.

    Example:
        >>> number(0.5), number(0.0004)
        ('0.50', '0.0004')
    """
    return f"{value:.2f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.2g}"


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """Return the font that Pillow carries, in ``size`` pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Return the width of ``text`` in pixels."""
    return int(np.ceil(font(size).getlength(text)))


def line_height(size: int) -> int:
    """Return the height of a line of text in pixels."""
    ascent, descent = font(size).getmetrics()
    return int(ascent + descent) + 1


def fitted(text: str, room: int, size: int) -> str:
    """Return ``text`` on one line, without control characters, shortened to ``room`` pixels.

    Example:
        >>> fitted("a long name", 40, 12)
        'a lon...'
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    if text_width(text, size) <= room:
        return text
    kept = bisect_right(range(len(text)), room, key=lambda k: text_width(text[:k] + "...", size)) - 1
    return text[: max(kept, 0)].rstrip() + "..."


class Caption(NamedTuple):
    """Lines of small text, shortened to the width that they have."""

    lines: list[str]

    @property
    def height(self) -> int:
        """The pixels that the lines take, with a margin."""
        return len(self.lines) * line_height(SMALL) + (GAP // 2 if self.lines else 0)

    def draw(self, canvas: Image.Image, left: int, top: int) -> None:
        """Write the lines, the first at ``top``."""
        draw = ImageDraw.Draw(canvas)
        for i, line in enumerate(self.lines):
            draw.text((left, top + i * line_height(SMALL)), line, fill=INK, font=font(SMALL))


def caption_lines(text: str | None, room: int) -> Caption:
    """Return ``text`` as a caption ``room`` pixels wide."""
    return Caption([fitted(line, room, SMALL) for line in (text or "").splitlines()])


def paper(width: int, height: int) -> Image.Image:
    """Return an empty canvas."""
    return Image.new("RGB", (width, height), PAPER)
