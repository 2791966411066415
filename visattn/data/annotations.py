"""What annotation files say of a folder's pictures, what is wrong with it, and what training makes of it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visattn.data.images import image_size
from visattn.data.layouts import Entry, complete, draw, few
from visattn.data.objects import Objects
from visattn.data.scenes import SPLITS, Split
from visattn.types import UsageError

ClassKey: TypeAlias = int | str  # a category's id, or a name where the format has no ids
Part: TypeAlias = Split | Literal["all"]  # "all": the folder has no splits of its own

OUTSIDE = 0.5  # pixels that a box may reach beyond its picture: rounding, not a fault

# What can be wrong: what becomes of it in training, or None where it stops it.
FAULTS: dict[str, str | None] = {
    "broken files": None,
    "missing pictures": None,
    "missing annotation files": None,
    "boxes of unknown classes": None,
    "picture ids given twice": None,
    "classes with two names": None,
    "broken boxes": "left out",
    "boxes without area": "left out",
    "boxes beyond their picture": "cut at its edge",
    "boxes of no listed picture": "left out",
    "pictures listed twice in a split": "the first entry counts",
}


class Fault(NamedTuple):
    """One thing that is wrong."""

    kind: str  # a key of FAULTS
    where: str  # the file, with what is wrong in it

    @property
    def stops(self) -> bool:
        """Whether training would be wrong or impossible with it."""
        return FAULTS[self.kind] is None


class Marked(NamedTuple):
    """One picture as its annotation describes it, nothing repaired."""

    path: Path
    name: str  # relative to the folder, with slashes
    image_id: int | str
    size: tuple[int, int] | None  # width and height, where they are stated
    boxes: NDArray[np.float64]  # (n, 4), xyxy in pixels; NaN where they cannot be read
    classes: list[ClassKey]  # n of them
    iscrowd: list[bool]
    area: list[float]  # NaN: that of the box


class Annotations(NamedTuple):
    """What the annotation files of a folder say."""

    root: Path
    form: str  # for people: "COCO" or "VOC"
    parts: dict[Part, list[Marked]]
    titles: dict[ClassKey, str]  # the name of each class, in the order of the network's outputs
    faults: list[Fault]
    notes: list[str]


class Located(NamedTuple):
    """One picture ready for training."""

    path: Path
    name: str
    image_id: int | str
    size: tuple[int, int]  # width and height
    objects: Objects


class BoxListing(NamedTuple):
    """What a folder holds, repaired."""

    class_names: list[str]
    class_keys: list[ClassKey]  # what the format calls each of them
    splits: dict[Split, list[Located]]
    notes: list[str]  # what was left open, or repaired, and how


def grouped(faults: Iterable[Fault]) -> dict[str, list[str]]:
    """Return where each kind of fault is, kinds in the order of FAULTS."""
    found: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        found[fault.kind].append(fault.where)
    return {kind: found[kind] for kind in FAULTS if kind in found}


def say(kind: str, places: list[str]) -> str:
    """Return one line for all faults of a kind.

    Example:
        >>> say("boxes without area", ["a.jpg (1, 1, 1, 5)"])
        'boxes without area, left out: 1: a.jpg (1, 1, 1, 5)'
    """
    return f"{with_fate(kind)}: {len(places)}: {few(places)}"


def with_fate(kind: str) -> str:
    """Return a kind of fault with what becomes of such things."""
    return f"{kind}, {FAULTS[kind]}" if FAULTS[kind] else kind


class Shelf:
    """The names of files, each folder listed once: asking the disk for each picture takes seconds."""

    def __init__(self) -> None:
        self._known: dict[Path, frozenset[str]] = {}

    def has(self, path: Path) -> bool:
        """Return whether there is such a file."""
        folder = path.parent
        if folder not in self._known:
            try:
                self._known[folder] = frozenset(os.listdir(folder))  # noqa: PTH208 - names alone, a third of the time
            except OSError:
                self._known[folder] = frozenset()
        return path.name in self._known[folder]


def examine(found: Annotations, seed: int) -> tuple[BoxListing, list[Fault]]:
    """Repair what can be repaired, draw the splits that are missing, and return what was wrong besides.

    Args:
        found: what the annotation files say.
        seed: draws the splits that the folder does not give.
    """
    faults = list(found.faults)
    parts = {part: _once(own, part, faults) for part, own in found.parts.items()}
    cleaned = {part: [_cleaned(one, faults) for one in own] for part, own in parts.items()}
    seen = Counter(key for own in cleaned.values() for one in own for key in one.classes)
    keys = [key for key in found.titles if seen[key]]
    notes = list(found.notes)
    if unused := [found.titles[key] for key in found.titles if not seen[key]]:
        notes.append(f"classes without any box are left out: {few(unused, 10)}")
    shared = Counter(found.titles[key] for key in keys)
    names = [found.titles[key] if shared[found.titles[key]] == 1 else f"{found.titles[key]} ({key})" for key in keys]
    place = {key: index for index, key in enumerate(keys)}
    splits, drawn = _splits({part: [_located(one, place) for one in own] for part, own in cleaned.items()}, found, seed)
    return BoxListing(names, keys, splits, notes + drawn), faults


def settle(found: Annotations, seed: int) -> BoxListing:
    """Return what training may use.

    Raises:
        UsageError: something is wrong that cannot be repaired, or there is no box to learn from.
    """
    stopping = grouped(fault for fault in found.faults if fault.stops)
    for kind, places in stopping.items():
        advice = f"; visattn data check {found.root} lists all that is wrong" if len(places) > 1 else ""
        raise UsageError(f"{found.root}: {say(kind, places)}{advice}")
    listing, faults = examine(found, seed)
    if not any(len(one.objects.labels) for one in listing.splits["train"]):
        raise UsageError(f"the training pictures of {found.root} have no box at all")
    return listing._replace(notes=listing.notes + [say(kind, places) for kind, places in grouped(faults).items()])


def _once(own: list[Marked], part: Part, faults: list[Fault]) -> list[Marked]:
    """Return the pictures of a split, the second entry of a file left out."""
    kept: dict[Path, Marked] = {}
    for one in own:
        if one.path in kept:
            faults.append(Fault("pictures listed twice in a split", f"{one.name} in {part}"))
        kept.setdefault(one.path, one)
    return list(kept.values())


def _cleaned(one: Marked, faults: list[Fault]) -> Marked:
    """Return a picture with its boxes cut at its edge, and those without area left out."""
    size = one.size
    if size is None:
        try:
            size = image_size(one.path)
        except UsageError:  # it is missing or damaged, which is a fault of its own
            size = (2**15, 2**15)
    limits = np.array([*size, *size], np.float64)
    cut = np.clip(one.boxes, 0, limits)
    with np.errstate(invalid="ignore"):
        flat = _flat(one.boxes)
        beyond = np.any(np.abs(cut - one.boxes) > OUTSIDE, axis=1)
        gone = _flat(cut.astype(np.float32))  # which is what training sees
    broken = np.any(np.isnan(one.boxes), axis=1)
    for place in np.flatnonzero(broken | beyond | gone).tolist():
        kind = (
            "broken boxes" if broken[place] else "boxes without area" if flat[place] else "boxes beyond their picture"
        )
        shown = ", ".join(f"{edge:g}" for edge in one.boxes[place])
        faults.append(Fault(kind, f"{one.name} ({shown})"))
    kept = [int(place) for place in np.flatnonzero(~gone)]
    area = [float((cut[n, 2:] - cut[n, :2]).prod()) if np.isnan(one.area[n]) else one.area[n] for n in kept]
    return one._replace(
        size=size,
        boxes=cut[kept],
        classes=[one.classes[n] for n in kept],
        iscrowd=[one.iscrowd[n] for n in kept],
        area=area,
    )


def _flat(boxes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which boxes have no area, or no numbers."""
    return ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))


def _located(one: Marked, place: dict[ClassKey, int]) -> Located:
    objects = Objects(
        one.boxes.astype(np.float32).reshape(-1, 4),
        np.array([place[key] for key in one.classes], np.int64),
        np.array(one.iscrowd, np.bool_),
        np.array(one.area, np.float32),
    )
    return Located(one.path, one.name, one.image_id, one.size or (0, 0), objects)


def _splits(
    parts: dict[Part, list[Located]], found: Annotations, seed: int
) -> tuple[dict[Split, list[Located]], list[str]]:
    """Draw the splits that are missing, by the names of the pictures."""
    entries = {part: [Entry(one.path, one.name, "") for one in own] for part, own in parts.items() if own}
    known = {(part, one.name): one for part, own in parts.items() for one in own}
    notes: list[str] = []
    if "all" in entries:
        dealt = draw(entries["all"], seed, ["val", "test"])
        notes.append(f"{found.root} has no splits: 15% of the pictures are val and 15% test")
        return {split: [known["all", entry.name] for entry in dealt[split]] for split in SPLITS}, notes
    whole, notes = complete({split: entries[split] for split in SPLITS if split in entries}, found.root, seed)
    return {
        split: [known[_home(split, entry.name, known), entry.name] for entry in whole[split]] for split in SPLITS
    }, notes


def _home(split: Split, name: str, known: dict[tuple[Part, str], Located]) -> Part:
    """Return the split that a picture of ``split`` was listed in: val may be drawn from train, and test be val."""
    order: list[Part] = [split, "val", "train"]
    return next(part for part in order if (part, name) in known)
