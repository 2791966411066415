"""The page of maps: pictures across, Grad-CAM and maps of every arm below them."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from visattn.report.attachments import Gallery, MapRow, Picture
from visattn.report.figures import ratio
from visattn.report.table import Report

# What a browser may be given: told by the bytes, never by the name.
_KINDS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))


def gallery(report: Report, marks: dict[str, str]) -> str:
    """Return the section, "" where no maps were drawn.

    Args:
        report: what the page is about.
        marks: arm to its swatch, as HTML.
    """
    found = report.comparison.gallery
    if found is None or not found.pictures:
        return ""
    lines = [_line("Input", "", [_picture(item) for item in found.pictures])]
    for place, row in enumerate(found.rows):
        # a rule where Grad-CAM ends and the maps begin, and under the input
        first = place == 0 or found.rows[place - 1].kind != row.kind
        lines.append(_line(_title(row, marks), "first" if first else "", _drawings(row, found)))
    return (
        "<section><h2>Where each arm looks</h2>"
        f'<p class="note">The same test pictures for every arm. {_cam_note(found)} '
        "A map is the gate itself, as the network multiplies it; it shows what a block weighs, not that the weighing "
        "helps.</p>"
        '<div class="gallery" tabindex="0" role="region" aria-label="Maps"><table><tbody>'
        f"{''.join(lines)}</tbody></table></div></section>"
    )


def _cam_note(found: Gallery) -> str:
    if any(row.kind == "boxes" for row in found.rows):
        return "Boxes are what an arm finds. Grad-CAM asks which places raise the sum of its scores."
    return "Under a picture stands the class that the arm predicts. Grad-CAM asks which places raise that class."


def _title(row: MapRow, marks: dict[str, str]) -> str:
    # a long key may break after its slashes and dots
    name = _escape(row.key or row.kind).replace("/", "/<wbr>").replace(".", ".<wbr>")
    key = name if row.kind != "map" else f"<code>{name}</code>"
    scores = ", ".join(f"{_escape(what)} {ratio(value)}" for what, value in row.score.items())
    return (
        f"{marks.get(row.arm, '')}{_escape(row.arm)}<small>{key}</small>{f'<small>{scores}</small>' if scores else ''}"
    )


def _line(title: str, kind: str, cells: list[str]) -> str:
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return f'{opening}<th scope="row">{title}</th>{"".join(cells)}</tr>'


def _picture(item: Picture) -> str:
    return _cell(item.file, f"picture {item.id}", f'<span class="under">{_escape(item.label)}</span>')


def _drawings(row: MapRow, found: Gallery) -> list[str]:
    cells = []
    for place, item in enumerate(found.pictures):
        file = row.files[place] if place < len(row.files) else None
        predicted = row.predicted[place] if place < len(row.predicted) else ""
        wrong = bool(predicted) and predicted != item.label
        style = "under wrong" if wrong else "under"
        under = f'<span class="{style}">{_escape(predicted)}{" (wrong)" if wrong else ""}</span>' if predicted else ""
        cells.append(_cell(file, f"{row.arm} {row.key}, picture {item.id}", under))
    return cells


def _cell(file: Path | None, what: str, under: str) -> str:
    source = _embedded(file)
    if source is None:
        return f'<td><span class="none">missing</span>{under}</td>'
    return f'<td><img src="{source}" alt="{_escape(what)}" loading="lazy">{under}</td>'


def _embedded(file: Path | None) -> str | None:
    if file is None:
        return None
    content = file.read_bytes()
    kind = next((kind for start, kind in _KINDS if content.startswith(start)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else None


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
