"""Maps as pictures: an overlay with its colour bar, a strip for a channel gate, a contact sheet.

Pure functions from arrays to Pillow images. A colour means the same value in every picture drawn with
the same ``low`` and ``high``: nothing is stretched to a picture's own minimum and maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visattn.maps.canvas import (
    BAR,
    GAP,
    INK,
    LINE,
    PAPER,
    SHADE,
    TEXT,
    Box,
    Pixels,
    Scale,
    Values,
    array,
    caption_lines,
    fitted,
    font,
    line_height,
    number,
    paper,
    scale,
)
from visattn.types import UsageError

SMALLEST = 192  # smaller pictures are drawn with a longer side of so many pixels
BARS = 64  # up to so many channels are drawn as bars, more as a grid of colours


def overlay(
    image: object,
    values: object,
    *,
    low: float,
    high: float,
    size: int | None = None,
    caption: str | None = None,
) -> Image.Image:
    """Return ``image`` under the colours of a map, with a colour bar from ``low`` to ``high``.

    The line beside the bar spans the map's own values, its dot is their mean; the text below says both.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W)``, a NumPy array or a tensor.
        values: the map ``(h, w)``, upsampled bilinearly to the picture; NaN is drawn grey.
        low: the value at the bottom of the colour bar.
        high: the value at its top; values beyond either end take the end's colour.
        size: pixels of the picture's longer side, by default its own, at least 192.
        caption: lines of text below, shortened to fit.

    Raises:
        UsageError: the image is not uint8 or not a picture, the map is not 2-D, or ``low >= high``.

    Example:
        >>> overlay(np.zeros((64, 64, 3), np.uint8), np.ones((7, 7)), low=0, high=1).height
        228
    """
    picture, heat, span = _enlarged(_picture(image), size), _values(values, 2), scale(low, high)
    fine = Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    return _framed(_blend(np.asarray(picture), span.colors(fine)), heat, span, _below(_facts(heat), caption))


def plain(image: object, *, size: int | None = None, caption: str | None = None) -> Image.Image:
    """Return ``image`` itself in the frame of an overlay, without a map: what the maps are of.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W)``, a NumPy array or a tensor.
        size: pixels of the picture's longer side, by default its own, at least 192.
        caption: lines of text below, shortened to fit.

    Raises:
        UsageError: the image is not uint8 or not a picture.

    Example:
        >>> plain(np.zeros((64, 64, 3), np.uint8)).size
        (208, 208)
    """
    return _framed(_enlarged(_picture(image), size), None, None, caption)


def strip(
    gate: object,
    *,
    low: float,
    high: float,
    size: int = SMALLEST,
    caption: str | None = None,
) -> Image.Image:
    """Return a channel gate as a picture, with its mean and spread in numbers.

    Up to 64 channels are bars, with a dashed line at their mean. More are a grid of colours, read
    row by row, with a colour bar.

    Args:
        gate: ``(C,)``, a NumPy array or a tensor; NaN is left out.
        low: the value at the foot of the bars and of the colour bar.
        high: the value at their top.
        size: pixels of the plot's side.
        caption: lines of text below, shortened to fit.

    Raises:
        UsageError: the gate is not 1-D or empty, or ``low >= high``.

    Example:
        >>> strip(np.linspace(0, 1, 64), low=0, high=1).height
        244
    """
    values, span = _values(gate, 1), scale(low, high)
    shown = values[np.isfinite(values)]
    spread = f"   spread {number(shown.std())}" if len(shown) else ""
    text = _below(f"{_facts(values)}{spread}", f"{len(values)} channel{'s' if len(values) > 1 else ''}", caption)
    if len(values) > BARS:
        return _framed(_grid(values, span, size), values, span, text)
    lines = caption_lines(text, size + GAP + span.bar_width())
    canvas = paper(GAP + size + GAP + span.bar_width() + GAP, GAP + size + GAP + lines.height)
    box = (GAP, GAP, GAP + size, GAP + size)
    _draw_bars(ImageDraw.Draw(canvas), values, span, box)
    span.draw_ticks(canvas, box[2] + GAP, box)
    lines.draw(canvas, GAP, box[3] + GAP // 2)
    return canvas


def sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Image.Image:
    """Return a contact sheet: pictures in rows, each column as wide as its widest picture.

    Args:
        rows: the pictures; None leaves a cell empty.
        row_labels: a heading above each row, shortened to fit.
        column_labels: a heading above each column, shortened to fit.

    Raises:
        UsageError: there is no picture, or the labels do not fit the pictures in number.

    Example:
        >>> sheet([[Image.new("RGB", (20, 10)), None], [Image.new("RGB", (30, 10))]]).size
        (30, 20)
    """
    columns = max((len(row) for row in rows), default=0)
    widths = [max((row[c].width for row in rows if c < len(row) and row[c]), default=0) for c in range(columns)]  # type: ignore[union-attr]
    if not any(widths):
        raise UsageError("a contact sheet needs at least one picture")
    for what, labels, count in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if labels and len(labels) != count:
            raise UsageError(f"{count} {what}s need {count} {what} labels, got {len(labels)}")
    heights = [max((cell.height for cell in row if cell), default=0) for row in rows]
    heading = line_height(TEXT) + GAP
    above, top = (heading if row_labels else 0), (heading if column_labels else 0)
    canvas = paper(sum(widths), top + sum(above + height for height in heights))
    draw = ImageDraw.Draw(canvas)
    lefts = [sum(widths[:c]) for c in range(columns)]
    for left, label, room in zip(lefts, column_labels, widths, strict=False):
        draw.text((left + GAP, GAP), fitted(label, room - GAP, TEXT), fill=INK, font=font(TEXT))
    for r, row in enumerate(rows):
        if row_labels:
            room = canvas.width - 2 * GAP
            draw.text((GAP, top + GAP), fitted(row_labels[r], room, TEXT), fill=INK, font=font(TEXT))
        for left, cell in zip(lefts, row, strict=False):
            if cell:
                canvas.paste(cell.convert("RGB"), (left, top + above))
        top += above + heights[r]
    return canvas


def save_jpeg(image: Image.Image, path: str | Path) -> Path:
    """Write ``image`` as a JPEG of quality 90 whose coloured text is sharp, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert("RGB").save(path, "JPEG", quality=90, subsampling=0)
    return path


def _picture(image: object) -> Image.Image:
    pixels = array(image)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise UsageError(f"an image to draw is uint8 (H, W, 3) or (H, W), got {pixels.dtype} {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def _values(values: object, axes: int) -> Values:
    plane = array(values).astype(np.float64)
    if plane.ndim != axes or plane.size == 0:
        needed = "(h, w)" if axes == 2 else "(C,)"
        raise UsageError(f"a map to draw here needs shape {needed} and a value at least, got shape {plane.shape}")
    return plane


def _facts(values: Values) -> str:
    shown = values[np.isfinite(values)]
    if not len(shown):
        return "no finite value"
    low, high = float(shown.min()), float(shown.max())
    if high - low < 0.02 * max(abs(low), abs(high)):  # a map that is nearly flat: say how nearly
        return f"mean {shown.mean():.4g}   {low:.4g} to {high:.4g}"
    return f"mean {number(shown.mean())}   {number(low)} to {number(high)}"


def _below(*lines: str | None) -> str:
    return "\n".join(line for line in lines if line)


def _enlarged(picture: Image.Image, size: int | None) -> Image.Image:
    longer = max(picture.size)
    factor = (size or max(longer, SMALLEST)) / longer
    target = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture if target == picture.size else picture.resize(target, Image.Resampling.BICUBIC)


def _blend(pixels: Pixels, tint: Pixels) -> Image.Image:
    """Half colours, half the picture with most of its own colour taken out, so that hue means value."""
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    calm = 0.2 * pixels + 0.8 * grey[..., None]
    return Image.fromarray((0.45 * calm + 0.55 * tint).round().astype(np.uint8))


def _framed(picture: Image.Image, shown: Values | None, span: Scale | None, text: str | None) -> Image.Image:
    """Put ``picture`` on paper, its colour bar to the right, its caption below."""
    side = 0 if span is None else GAP + span.bar_width()
    lines = caption_lines(text, picture.width + side)
    canvas = paper(GAP + picture.width + side + GAP, GAP + picture.height + GAP + lines.height)
    canvas.paste(picture, (GAP, GAP))
    right, bottom = GAP + picture.width, GAP + picture.height
    if span is not None and shown is not None:
        span.draw_bar(canvas, (right + GAP, GAP, right + GAP + BAR, bottom), shown)
    lines.draw(canvas, GAP, bottom + GAP // 2)
    return canvas


def _draw_bars(draw: ImageDraw.ImageDraw, values: Values, span: Scale, box: Box) -> None:
    left, top, right, bottom = box
    draw.rectangle((left, top, right - 1, bottom - 1), fill=SHADE)
    for value, _ in span.ticks():
        draw.line((left, span.level(value, box), right - 1, span.level(value, box)), fill=LINE)
    edges = np.linspace(left, right, len(values) + 1).round().astype(int).tolist()
    for value, start, end in zip(values.tolist(), edges, edges[1:], strict=False):
        if math.isfinite(value):
            r, g, b = span.colors(value).tolist()
            draw.rectangle((start, span.level(value, box), max(start, end - 2), bottom - 1), fill=(r, g, b))
    shown = values[np.isfinite(values)]
    if len(shown):
        middle = span.level(shown.mean(), box)
        for x in range(left, right - 4, 8):
            draw.line((x, middle, x + 4, middle), fill=INK)


def _grid(values: Values, span: Scale, size: int) -> Image.Image:
    columns = math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / columns)
    cells = np.full((rows * columns, 3), PAPER, np.uint8)
    cells[: len(values)] = span.colors(values)
    picture = Image.fromarray(cells.reshape(rows, columns, 3))
    return picture.resize((size, round(size * rows / columns)), Image.Resampling.NEAREST)
