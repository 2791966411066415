"""A comparison folder, read: what ran, what each cell scored, what it cost, which maps were drawn."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from visattn.report.attachments import Cost, Gallery, PictureDraws, read_cost, read_draws, read_gallery
from visattn.report.document import Document
from visattn.types import ACCURACY, Metric, UsageError, unknown


class Arm(NamedTuple):
    """One column of the experiment: the baseline or a block."""

    label: str
    spec: Any
    init: str  # "" for the baseline


class Data(NamedTuple):
    """What was trained and tested on; a count is None where nobody wrote it down."""

    name: str
    train: int | None
    val: int | None
    test: int | None
    classes: tuple[str, ...]
    image_size: int | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One finished run."""

    arm: str
    seed: int
    score: float
    metrics: dict[str, float]
    per_class: dict[str, float]
    parameters: int | None
    epochs: int | None
    train_seconds: float
    images_per_second: float
    host_weights: str  # "" where it was not recorded
    order: str
    finished: str
    curve: tuple[tuple[int, float], ...]  # (epoch, validation score)


class Unfinished(NamedTuple):
    """A cell without a usable result."""

    arm: str
    seed: int
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a comparison folder says."""

    folder: Path
    title: str
    config: str
    command: str
    started: str
    minutes: float
    host: str
    data: Data
    baseline: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    machine: dict[str, str]
    versions: dict[str, str]
    cells: dict[tuple[str, int], Cell]
    unfinished: tuple[Unfinished, ...]
    metric: Metric = ACCURACY
    cost: Cost | None = None
    pictures: PictureDraws | None = None
    gallery: Gallery | None = None
    blocks: tuple[Arm, ...] = field(init=False)  # the arms without the baseline

    def __post_init__(self) -> None:
        """Split the baseline from the blocks."""
        object.__setattr__(self, "blocks", tuple(arm for arm in self.arms if arm.label != self.baseline))

    def of(self, label: str) -> list[Cell]:
        """Return an arm's finished cells in the order of the seeds."""
        return [self.cells[label, seed] for seed in self.seeds if (label, seed) in self.cells]

    def scores(self, label: str) -> dict[int, float]:
        """Return seed to test score of an arm's finished cells."""
        return {cell.seed: cell.score for cell in self.of(label)}


def read_comparison(folder: Path) -> Comparison:
    """Read a folder that ``visattn compare run`` wrote; cells may be missing.

    Args:
        folder: the folder that holds ``compare.json``.

    Raises:
        UsageError: the folder is not a comparison, or one of its files is damaged.

    Example:
        >>> read_comparison(Path("nowhere"))
        Traceback (most recent call last):
        visattn.types.UsageError: 'nowhere' is not a comparison: there is no such folder
    """
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a comparison: there is no such folder")
    if not (folder / "compare.json").is_file():
        near = sorted(path.parent.name for path in folder.glob("*/compare.json"))
        hint = f"; below it: {', '.join(near)}" if near else "; `visattn compare run --out FOLDER` writes one"
        raise UsageError(f"'{folder}' is not a comparison: it holds no compare.json{hint}")
    document = Document.read(folder / "compare.json")
    arms = tuple(
        Arm(arm.name("label"), arm.data.get("spec"), arm.text("init")) for arm in document.nodes("arms", required=True)
    )
    baseline, seeds = document.text("baseline", "none"), document.integers("seeds")
    if baseline not in (labels := [arm.label for arm in arms]):
        raise unknown("baseline", baseline, labels)
    metric = _metric(folder, labels, seeds)
    cells, unfinished = _cells(folder, labels, seeds, metric)
    return Comparison(
        folder=folder,
        title=document.text("title") or folder.resolve().name,
        config=document.text("config"),
        command=document.text("command"),
        started=document.text("started"),
        minutes=document.number("minutes"),
        host=document.text("host"),
        data=_data(document.node("data")),
        baseline=baseline,
        arms=arms,
        seeds=seeds,
        machine=_strings(document.node("machine")),
        versions=_strings(document.node("versions")),
        cells=cells,
        unfinished=unfinished,
        metric=metric,
        cost=read_cost(folder / "cost.json"),
        pictures=read_draws(folder / "pictures.json"),
        gallery=read_gallery(folder / "maps.json"),
    )


def _strings(document: Document) -> dict[str, str]:
    return {key: str(value) for key, value in document.data.items() if value is not None}


def _data(document: Document) -> Data:
    return Data(
        name=document.text("name"),
        train=document.integer("train"),
        val=document.integer("val"),
        test=document.integer("test"),
        classes=document.texts("classes"),
        image_size=document.integer("image_size"),
    )


def _metric(folder: Path, labels: list[str], seeds: tuple[int, ...]) -> Metric:
    """Return what the first cell that can be read was scored by."""
    for file in (folder / label / f"seed{seed}" / "result.json" for seed in seeds for label in labels):
        if file.is_file():
            try:
                found = Document.read(file).node("metric")
                return Metric(*(found.text(key, default) for key, default in ACCURACY._asdict().items()))
            except UsageError:  # named where its cell is read
                continue
    return ACCURACY


def _cells(
    folder: Path, labels: list[str], seeds: tuple[int, ...], metric: Metric
) -> tuple[dict[tuple[str, int], Cell], tuple[Unfinished, ...]]:
    cells, unfinished = {}, []
    for label in labels:
        for seed in seeds:
            run = folder / label / f"seed{seed}"
            if not (run / "result.json").is_file():
                why = "has begun, has no result yet" if run.is_dir() else "has not begun"
                unfinished.append(Unfinished(label, seed, why))
                continue
            try:
                cells[label, seed] = _cell(run, label, seed, metric)
            except UsageError as error:  # one damaged cell must not hide the others
                unfinished.append(Unfinished(label, seed, str(error)))
    return cells, tuple(unfinished)


def _cell(run: Path, label: str, seed: int, metric: Metric) -> Cell:
    document = Document.read(run / "result.json")
    metrics = document.node("metrics").numbers()
    key = f"test/{metric.key}"
    score = metrics.get(key, math.nan)
    if not math.isfinite(score):
        raise UsageError(f"{run / 'result.json'} has no finite '{key}'; it has: {', '.join(metrics) or 'none'}")
    pairing = document.node("pairing")
    return Cell(
        arm=label,
        seed=seed,
        score=score,
        metrics=metrics,
        per_class=document.node("per_class").numbers(),
        parameters=document.integer("parameters"),
        epochs=document.integer("epochs"),
        train_seconds=document.number("train_seconds"),
        images_per_second=document.number("train_images_per_second"),
        host_weights=pairing.text("host_weights"),
        order=pairing.text("order"),
        finished=document.text("finished"),
        curve=_curve(run / "metrics.csv", f"val/{metric.key}"),
    )


def _curve(path: Path, column: str) -> tuple[tuple[int, float], ...]:
    """Read (epoch, validation score); a line cut short by a killed run is left out."""
    points: dict[int, float] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                try:
                    epoch, value = int(line["epoch"]), float(line[column])
                except (KeyError, TypeError, ValueError):
                    continue
                if math.isfinite(value):
                    points[epoch] = value
    return tuple(sorted(points.items()))
