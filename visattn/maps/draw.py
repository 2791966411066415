"""All maps of a recording as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from visattn.maps.canvas import number
from visattn.maps.capture import Maps
from visattn.maps.crop import to_pictures
from visattn.maps.render import overlay, strip
from visattn.types import Frames, UsageError


def draw(
    maps: Maps,
    images: Sequence[Tensor] | Tensor,
    *,
    keys: Iterable[str] | None = None,
    captions: Sequence[str] | None = None,
    size: int | None = None,
    frames: Frames | None = None,
) -> dict[str, list[Image.Image]]:
    """Return the effective maps of the recorded pictures, drawn: by key, one picture each.

    Channel maps become strips, all others overlays, every one on the fixed scale of its map; a map
    without limits is drawn on the range of these pictures. Where a site has an identity strength, its
    value is written below: near 0 the map is flat.

    Args:
        maps: what ``capture`` recorded of ``images``.
        images: uint8 ``(N, 3, H, W)``, or pictures ``(3, H, W)`` of several sizes with ``frames``, in the
            order in which the model saw them.
        keys: which maps, by default all.
        captions: text below each picture.
        size: pixels of a picture's longer side, by default its own, at least 192.
        frames: where the pictures lie in the maps, if these cover a padded batch.

    Raises:
        UsageError: a key was not recorded, or the recording is not of so many pictures.

    Example:
        >>> import torch
        >>> from visattn.attention.cbam import CBAM
        >>> from visattn.maps.capture import capture
        >>> block, images = CBAM(3), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> with capture(block) as maps:
        ...     _ = block(images.float())
        >>> {key: len(pictures) for key, pictures in draw(maps, images).items()}
        {'channel': 2, 'spatial': 2}
    """
    pictures = [image.movedim(0, -1).cpu().numpy() for image in images]
    texts = captions if captions is not None else [None] * len(pictures)
    return {key: _drawn(maps, key, pictures, texts, size, frames) for key in (maps if keys is None else keys)}


def planes_of(maps: Maps, key: str, pictures: Sequence[tuple[int, int]], frames: Frames | None) -> list[Tensor]:
    """Return the map ``key`` over each whole picture, coarse or in its pixels.

    Args:
        maps: a recording.
        key: of a map with positions.
        pictures: height and width of each.
        frames: where they lie in the maps; None if each map covers its picture.
    """
    height, width = frames.padded if frames is not None else pictures[0]
    planes = maps.plane(key, aspect=height / width)
    return list(planes) if frames is None else to_pictures(planes, frames)


def _drawn(
    maps: Maps,
    key: str,
    pictures: Sequence[NDArray[Any]],
    texts: Sequence[str | None],
    size: int | None,
    frames: Frames | None,
) -> list[Image.Image]:
    info = maps.info(key)
    if info.strength is not None:  # without it a map that is still near the identity looks like a mistake
        below = f"strength {number(info.strength)}"
        texts = [below if text is None else f"{text}\n{below}" for text in texts]
    if len(maps[key]) != len(pictures):
        raise UsageError(f"map '{key}' was recorded of {len(maps[key])} pictures, {len(pictures)} are to be drawn")
    if info.kind == "channel":
        keywords = {} if size is None else {"size": size}
        gates = maps.effective(key).flatten(1)
        low, high = info.scale or _range(gates)
        return [strip(g, low=low, high=high, caption=t, **keywords) for g, t in zip(gates, texts, strict=True)]
    planes = planes_of(maps, key, [picture.shape[:2] for picture in pictures], frames)
    low, high = info.scale or _range(torch.cat([plane.flatten() for plane in planes]))
    return [
        overlay(picture, plane, low=low, high=high, size=size, caption=text)
        for picture, plane, text in zip(pictures, planes, texts, strict=True)
    ]


def _range(values: Tensor) -> tuple[float, float]:
    """Return the finite values' range, of length 1 around a single value."""
    shown = values[values.isfinite()]
    if not len(shown):
        return 0.0, 1.0
    low, high = shown.min().item(), shown.max().item()
    return (low, high) if low < high else (low - 0.5, high + 0.5)
