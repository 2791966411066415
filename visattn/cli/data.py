"""``visattn data check``: look a folder of pictures over before training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visattn.cli.parser import Parser
from visattn.types import unknown

if TYPE_CHECKING:
    from PIL import Image
    from rich.table import Table

    from visattn.data.annotations import Located
    from visattn.data.check import Finding, Report

SUBJECTS = ("check",)
ROWS = 40  # classes that the table shows
PLACES = 3  # places that a finding names
ACROSS, SIDE = 4, 320  # pictures of a split on the sheet, and pixels of each


def run(args: Sequence[str]) -> int:
    """Check a folder."""
    subject, *rest = args or ["--help"]
    if subject in {"-h", "--help"}:
        print("usage: visattn data check FOLDER [--out check.jpg]\n\n  check  look a folder of pictures over")
        return 0
    if subject not in SUBJECTS:
        raise unknown("subject of data", subject, SUBJECTS)
    return _check(rest)


def _check(args: Sequence[str]) -> int:
    parser = Parser(
        "data check",
        "look a folder over as CocoData, VocData or FolderData would read it; status 0: fit to train on (there may be "
        "notes), 1: problems, 2: no such folder or no known layout",
    )
    parser.add_argument("folder", type=Path, help="the folder of pictures")
    parser.add_argument("--out", type=Path, default=Path("check.jpg"), help="the picture sheet to write")
    parser.add_argument("--data_seed", type=int, default=0, help="draws the splits that the folder does not give")
    parser.add_argument("--all", action="store_true", help="name every place of a finding, not the first few")
    options = parser.parse_args(args)
    from rich.console import Console
    from rich.progress import Progress

    from visattn.data.check import check_folder

    with Progress(disable=not sys.stderr.isatty(), transient=True, console=Console(stderr=True)) as bar:
        job = bar.add_task("reading pictures", total=None)
        report = check_folder(
            options.folder, options.data_seed, lambda done, total: bar.update(job, completed=done, total=total)
        )
    console = Console(highlight=False, soft_wrap=True)
    whole = sum(map(len, report.pictures.values()))
    console.print(f"{report.form} in {report.root}: {whole:,} pictures, {len(report.class_names)} classes\n")
    if whole:
        console.print(_table(report))
    for line in _lines(report.findings, options.all):
        console.print(line, markup=False)
    if (drawn := picture_sheet(report)) is not None:
        from visattn.maps.render import save_jpeg

        console.print(f"\npictures as training sees them: {save_jpeg(drawn, options.out)}", markup=False)
    return 1 if report.problems else 0


def _table(report: Report) -> Table:
    """Return the counts of each class in each split, frequent classes first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    splits = list(report.counts)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    table.add_column("class", overflow="fold")
    for split in splits:
        table.add_column(split, justify="right")
    order = sorted(range(len(report.class_names)), key=lambda k: [-int(report.counts[split][k]) for split in splits])
    for k in order[:ROWS]:
        table.add_row(report.class_names[k], *(_number(int(report.counts[split][k])) for split in splits))
    if len(order) > ROWS:
        rest = [sum(int(report.counts[split][k]) for k in order[ROWS:]) for split in splits]
        table.add_row(f"{len(order) - ROWS} more classes", *map(_number, rest))
    table.add_section()
    if any(len(one.objects.boxes) for own in report.pictures.values() for one in own):
        table.add_row("boxes", *(_number(int(report.counts[split].sum())) for split in splits))
        empty = [sum(not len(one.objects.labels) for one in report.pictures[split]) for split in splits]
        table.add_row("pictures without boxes", *map(_number, empty))
    table.add_row("pictures", *(_number(len(report.pictures[split])) for split in splits))
    return table


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _lines(findings: Sequence[Finding], every: bool) -> list[str]:
    """Return problems, then notes, each with the places where it was found."""
    lines = []
    for problem, title in ((True, "Problems"), (False, "Notes")):
        own = [one for one in findings if one.problem is problem]
        lines += [f"{title}: {len(own) or 'none'}"]
        for one in own:
            count = f"{one.what}: {len(one.where)}" if one.where else one.what
            lines.append(f"  {'✗' if problem else '·'} {count}")
            shown = one.where if every else one.where[:PLACES]
            lines += [f"      {place}" for place in shown]
            if len(one.where) > len(shown):
                lines.append(f"      and {len(one.where) - len(shown)} more; --all names them")
    return lines


def picture_sheet(report: Report) -> Image.Image | None:
    """Return some pictures of each split with their boxes and a legend; None if none can be read."""
    from PIL import Image

    from visattn.data.images import read_image
    from visattn.maps.labels import labelled, legend
    from visattn.maps.render import sheet
    from visattn.types import UsageError

    rows, titles = [], []
    for split, own in report.pictures.items():
        cells = []
        for one in _chosen(own):
            try:
                image = read_image(one.path)
            except UsageError:
                continue
            objects = one.objects
            boxed = len(objects.boxes) == len(objects.labels)
            names = "" if boxed else ", ".join(report.class_names[label] for label in objects.labels)
            labels = objects.labels.tolist() if boxed else []
            crowds = objects.iscrowd.tolist() if boxed else []
            caption = f"{names or one.path.name}"
            cells.append(labelled(image, objects.boxes, labels, crowds, size=SIDE, caption=caption))
        if cells:
            rows.append(cells)
            titles.append(f"{split}: {len(cells)} of {len(own):,} pictures")
    if not rows:
        return None
    drawn = sheet(rows, row_labels=titles)
    if not any(len(one.objects.boxes) for own in report.pictures.values() for one in own):
        return drawn
    key = legend(report.class_names[:ROWS], drawn.width)
    both = Image.new("RGB", (drawn.width, drawn.height + key.height), "white")
    both.paste(drawn)
    both.paste(key, (0, drawn.height))
    return both


def _chosen(pictures: Sequence[Located]) -> list[Located]:
    """Return a few pictures: each adds the most classes that were not shown yet; ties go to those far apart."""
    step = max(1, len(pictures) // ACROSS)
    left = [pictures[n] for start in range(step) for n in range(start, len(pictures), step)]
    chosen: list[Located] = []
    seen: set[int] = set()
    while left and len(chosen) < ACROSS:
        best = max(range(len(left)), key=lambda n: (len(set(left[n].objects.labels.tolist()) - seen), -n))
        chosen.append(left.pop(best))
        seen |= set(chosen[-1].objects.labels.tolist())
    return chosen
