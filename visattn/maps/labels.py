"""What a data set says, drawn over its pictures: boxes coloured and numbered by class, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from visattn.maps.canvas import GAP, INK, SMALL, TEXT, font, line_height, paper, text_width
from visattn.maps.render import plain

# Okabe and Ito's colours, which colour-blind people tell apart; classes beyond them share colours, not numbers
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")
_DARK, _LIGHT = "#101418", "#ffffff"


def labelled(
    image: object,
    boxes: np.ndarray,
    labels: Sequence[int],
    crowds: Sequence[bool],
    *,
    size: int,
    caption: str | None = None,
) -> Image.Image:
    """Return a picture under its boxes, each in the colour and with the number of its class; crowds are thin.

    Args:
        image: uint8 ``(H, W, 3)``.
        boxes: ``(n, 4)``, xyxy in pixels of ``image``.
        labels: n class numbers.
        crowds: whether each box is left out of training.
        size: pixels of the picture's longer side.
        caption: lines of text below, shortened to fit.

    Example:
        >>> labelled(np.zeros((48, 64, 3), np.uint8), np.array([[4, 4, 40, 30]]), [3], [False], size=64).size
        (80, 64)
    """
    picture = Image.fromarray(np.asarray(image))
    scale = size / max(picture.size)
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(shape, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    edge = np.array([*shape, *shape]) - 1
    placed = [np.clip(box * scale, 0, edge).round().tolist() for box in np.asarray(boxes, np.float64)]
    for box, label, crowd in zip(placed, labels, crowds, strict=True):
        draw.rectangle(box, outline=COLORS[label % len(COLORS)], width=1 if crowd else 2)
    for (left, top, _, _), label in zip(placed, labels, strict=True):  # after all boxes, whose lines would cross them
        _chip(draw, left, top - line_height(SMALL) + 2 if top >= line_height(SMALL) else top, label)
    return plain(np.asarray(picture), size=size, caption=caption)


def legend(names: Sequence[str], width: int) -> Image.Image:
    """Return the numbers, colours and names of classes, as many in a line as fit.

    Example:
        >>> legend(["cat", "dog"], 200).height
        35
    """
    step = line_height(TEXT) + GAP // 2
    spots, left, top = [], GAP, GAP // 2
    for label, name in enumerate(names):
        room = text_width(str(label), SMALL) + text_width(name, TEXT) + 4 * GAP
        if left > GAP and left + room > width:
            left, top = GAP, top + step
        spots.append((left, top, label, name))
        left += room
    canvas = paper(width, top + step + GAP)
    draw = ImageDraw.Draw(canvas)
    for x, y, label, name in spots:
        end = _chip(draw, x, y, label)
        draw.text((end + GAP // 2, y), name, fill=INK, font=font(TEXT))
    return canvas


def _chip(draw: ImageDraw.ImageDraw, left: float, top: float, label: int) -> float:
    """Write a class's number on its colour and return where that ends."""
    end = left + text_width(str(label), SMALL) + 4
    color = COLORS[label % len(COLORS)]
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    ink = _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else _LIGHT
    draw.rectangle((left, top, end, top + line_height(SMALL) - 2), fill=color)
    draw.text((left + 2, top - 1), str(label), fill=ink, font=font(SMALL))
    return end
