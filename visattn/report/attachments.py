"""The files that a comparison may lack: what each arm costs, what the test pictures leave open, the page of maps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from visattn.report.document import Document


class ArmCost(NamedTuple):
    """What one arm costs; ratios are to the baseline, with the ends of their interval."""

    parameters: float
    macs: float
    latency_ms: float
    latency_ratio: float
    latency_ratio_low: float
    latency_ratio_high: float
    train_ms: float
    train_ratio: float
    train_ratio_low: float
    train_ratio_high: float
    saved_bytes: float


class Cost(NamedTuple):
    """How cost was measured, and each arm's."""

    image_size: int | None
    batch: int | None
    device: str
    threads: int | None
    rounds: int | None
    arms: dict[str, ArmCost]


class PictureDraws(NamedTuple):
    """Each block's difference to the baseline over draws of the test pictures, ends of its 95 % interval."""

    pictures: int
    draws: int
    arms: dict[str, tuple[float, float]]


class Picture(NamedTuple):
    """A test picture of the page of maps."""

    id: str
    label: str
    file: Path | None  # None where the file is missing


class MapRow(NamedTuple):
    """One arm's maps of one kind, a file a picture."""

    arm: str
    kind: str
    key: str
    files: tuple[Path | None, ...]
    predicted: tuple[str, ...]
    score: dict[str, float]


class Gallery(NamedTuple):
    """The page of maps."""

    pictures: tuple[Picture, ...]
    rows: tuple[MapRow, ...]


def read_cost(path: Path) -> Cost | None:
    """Read ``cost.json``; None where cost was not measured."""
    if not path.is_file():
        return None
    document = Document.read(path)
    arms = {
        label: ArmCost(**{key: arm.number(key) for key in ArmCost._fields})
        for label, arm in document.node("arms").children()
    }
    size, batch, threads, rounds = (document.integer(key) for key in ("image_size", "batch", "threads", "rounds"))
    return Cost(size, batch, document.text("device"), threads, rounds, arms)


def read_draws(path: Path) -> PictureDraws | None:
    """Read ``pictures.json``; None where the test pictures were not drawn again."""
    if not path.is_file():
        return None
    document = Document.read(path)
    arms = {label: (arm.number("low"), arm.number("high")) for label, arm in document.node("arms").children()}
    return PictureDraws(document.integer("pictures") or 0, document.integer("draws") or 0, arms) if arms else None


def read_gallery(path: Path) -> Gallery | None:
    """Read ``maps.json``; None where no maps were drawn. Files outside its folder count as missing."""
    if not path.is_file():
        return None
    document, folder = Document.read(path), path.parent.resolve()

    def inside(name: str) -> Path | None:
        # what the report embeds comes from this folder alone
        file = (folder / name).resolve()
        return file if file.is_relative_to(folder) and file.is_file() else None

    pictures = tuple(
        Picture(str(item.data.get("id", "")), str(item.data.get("label", "")), inside(item.name("file")))
        for item in document.nodes("pictures")
    )
    rows = tuple(
        MapRow(
            row.name("arm"),
            row.text("kind", "map"),
            row.text("key"),
            tuple(inside(name) for name in row.texts("files")),
            row.texts("predicted"),
            row.node("score").numbers(),
        )
        for row in document.nodes("rows")
    )
    return Gallery(pictures, rows)
