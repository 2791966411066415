"""Boxes drawn over a picture: objects that are there dashed, what was found with names and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from visattn.maps.canvas import SMALL, array, fitted, font, line_height, text_width
from visattn.maps.render import SMALLEST, plain

# Okabe and Ito's colours, those that show on photographs first
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")
TRUE = "#ffffff"
DARK, LIGHT = "#101418", "#ffffff"
ROOM = 320  # pixels of a picture's longer side on which names can be read
DASH = 5  # pixels of a dash, and of the gap behind it


class Marked(NamedTuple):
    """A box with what it says."""

    box: tuple[float, ...]  # xyxy in pixels of the picture
    name: str
    score: float | None  # None for an object that is there
    label: int  # chooses the colour


def draw_boxes(
    image: object, boxes: Sequence[Marked], *, size: int | None = None, caption: str | None = None
) -> Image.Image:
    """Return ``image`` with boxes: white and dashed what is there, coloured by class what was found.

    Args:
        image: uint8 ``(H, W, 3)``, a NumPy array or a tensor.
        boxes: in pixels of ``image``; the unsurest are drawn first, so that the surest lie on top.
        size: pixels of the picture's longer side, by default its own, at least 192.
        caption: lines of text below, shortened to fit.

    Example:
        >>> one = Marked((4, 4, 40, 30), "dog", 0.9, 0)
        >>> draw_boxes(np.zeros((48, 64, 3), np.uint8), [one], size=64).size
        (80, 64)
    """
    if not boxes:
        return plain(image, size=size, caption=caption)
    pixels = array(image)
    height, width = pixels.shape[:2]
    longer = size or max(height, width, SMALLEST)
    scale = longer / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB").resize(target, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    stroke = max(2, round(longer / 320))
    tags = []
    for marked in sorted(boxes, key=lambda m: -1.0 if m.score is None else m.score):
        corners = _scaled(marked.box, scale, target)
        if marked.score is None:
            _dashed(draw, corners)
            continue
        color = COLORS[marked.label % len(COLORS)]
        draw.rectangle(corners, outline=color, width=stroke)
        tags.append((corners, f"{marked.name} {marked.score:.2f}", color))
    for corners, text, color in tags:  # after all boxes, whose lines would cross them out
        _tag(draw, corners, text, color, target)
    return plain(np.asarray(picture), size=longer, caption=caption)


def _scaled(box: tuple[float, ...], scale: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    xs = [min(max(x * scale, 0.0), size[0] - 1.0) for x in (box[0], box[2])]
    ys = [min(max(y * scale, 0.0), size[1] - 1.0) for y in (box[1], box[3])]
    return min(xs), min(ys), max(xs), max(ys)


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    for dark in (True, False):  # a dark line under the white dashes shows on a white ground
        fill = DARK if dark else TRUE
        for x in np.arange(left, right, 2 * DASH if not dark else DASH):
            for y in (top, bottom):
                draw.line((x, y, min(x + DASH, right), y), fill=fill)
        for y in np.arange(top, bottom, 2 * DASH if not dark else DASH):
            for x in (left, right):
                draw.line((x, y, x, min(y + DASH, bottom)), fill=fill)


def _tag(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, color: str, size: tuple[int, int]
) -> None:
    """Write ``text`` on a ground of ``color`` above the box, or inside it at the picture's upper edge."""
    text = fitted(text, size[0] - 4, SMALL)
    width, height = text_width(text, SMALL) + 4, line_height(SMALL)
    left = min(box[0], size[0] - width)
    top = box[1] - height if box[1] >= height else box[1]
    draw.rectangle((left, top, left + width, top + height), fill=color)
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    ink = DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else LIGHT
    draw.text((left + 2, top), text, fill=ink, font=font(SMALL))
