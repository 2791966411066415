"""How a folder says which picture is of what class and split: a CSV, split folders, or class folders."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visattn.data.images import natural_key, pictures_under
from visattn.data.scenes import SPLITS, Split
from visattn.data.seeding import stable_order
from visattn.types import UsageError, unknown

CSV = "labels.csv"
WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SHARES = {"val": 0.15, "test": 0.15}
LAYOUTS = f"a {CSV} (columns path, label, split), folders train/ val/ test/ of class folders, or class folders"


class Picture(NamedTuple):
    """A file, its class by name, and its split if the folder says so."""

    path: Path
    label: str
    split: Split | None


def read_layout(root: Path) -> list[Picture]:
    """Return the pictures of ``root``, by whichever layout it has.

    Raises:
        UsageError: the folder is missing or empty, a row names a missing file, or only one class is there.
    """
    if not root.is_dir():
        raise UsageError(f"data.root '{root}' is not a folder; valid: {LAYOUTS}")
    if (root / CSV).is_file():
        found = _from_csv(root)
    else:
        words = {child.name: WORDS[child.name.lower()] for child in root.iterdir() if child.is_dir() and child.name.lower() in WORDS}
        found = _from_splits(root, words) if "train" in words.values() else _from_classes(root, None)
    if not found:
        raise UsageError(f"data.root '{root}' holds no labelled pictures; valid: {LAYOUTS}")
    classes = {picture.label for picture in found}
    if len(classes) == 1:
        raise UsageError(f"data.root '{root}' holds one class, '{classes.pop()}'; classification needs two or more")
    return found


def fill_splits(found: list[Picture], seed: int) -> dict[Split, list[Picture]]:
    """Return the pictures by split; splits that the folder does not name are drawn class by class.

    Without any split 15 % are for validation and 15 % for the test. Where only one of them is
    missing it is drawn from the training pictures, the same for the same ``seed``.

    Raises:
        UsageError: a class of validation or test has no training picture.
    """
    named = {picture.split for picture in found} - {None}
    by_split: dict[Split, list[Picture]] = {split: [p for p in found if p.split == split] for split in SPLITS}
    free = [p for p in found if p.split in {None, "train"}]
    missing: list[Split] = [split for split in ("val", "test") if split not in named]  # type: ignore[misc]
    if missing:
        by_split["train"] = []
        for number, label in enumerate(sorted({p.label for p in free}, key=natural_key)):
            own = [p for p in free if p.label == label]
            own = [own[i] for i in stable_order(len(own), seed, number)]
            total = len(own)
            for split in missing:
                take = min(max(1, round(SHARES[split] * total)), max(0, len(own) - 1))
                by_split[split] += own[:take]
                own = own[take:]
            by_split["train"] += own
    known = {p.label for p in by_split["train"]}
    for split in ("val", "test"):
        for picture in by_split[split]:
            if picture.label not in known:
                raise UsageError(f"class '{picture.label}' of {split} ({picture.path}) has no training picture")
    return {split: sorted(rows, key=lambda p: natural_key(p.path.as_posix())) for split, rows in by_split.items()}


def _from_csv(root: Path) -> list[Picture]:
    path = root / CSV
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    for column in ("path", "label"):
        if column not in columns:
            raise UsageError(f"{path} has no column '{column}'; it has: {', '.join(map(str, columns)) or 'nothing'}")
    found, absent = [], []
    for line, row in enumerate(rows, start=2):
        word = (row.get("split") or "").strip().lower()
        if word and word not in WORDS:
            raise unknown(f"split in line {line} of {path}", row["split"], sorted(WORDS))
        file_path = root / (row["path"] or "")
        if not file_path.is_file():
            absent.append(f"line {line}: {row['path']}")
        label = (row.get("class") or row["label"] or "").strip()
        if not label:
            raise UsageError(f"line {line} of {path} has no label")
        found.append(Picture(file_path, label, WORDS.get(word)))
    if absent:
        raise UsageError(f"{path} names {len(absent)} missing pictures: {'; '.join(absent[:3])}")
    twice = [str(p) for p, count in Counter(picture.path for picture in found).items() if count > 1]
    if twice:
        raise UsageError(f"{path} names {len(twice)} pictures twice: {', '.join(twice[:3])}")
    return found


def _from_splits(root: Path, words: dict[str, Split]) -> list[Picture]:
    return [picture for name, split in sorted(words.items()) for picture in _from_classes(root / name, split)]


def _from_classes(folder: Path, split: Split | None) -> list[Picture]:
    """Take each folder below ``folder`` as a class; one folder around the classes is looked through."""
    children = sorted((c for c in folder.iterdir() if c.is_dir() and not c.name.startswith(".")), key=lambda c: natural_key(c.name))
    if len(children) == 1 and not any(c.is_file() and not c.name.startswith(".") for c in folder.iterdir()):
        inner = [c for c in children[0].iterdir() if c.is_dir()]
        if len(inner) > 1:
            return _from_classes(children[0], split)
    return [Picture(path, child.name, split) for child in children for path in pictures_under(child)]


def class_names(found: list[Picture]) -> list[str]:
    """Return the classes in natural order."""
    return sorted({picture.label for picture in found}, key=natural_key)


def label_numbers(found: list[Picture], names: list[str]) -> np.ndarray:
    """Return each picture's place in ``names``, ``(n,)`` int64."""
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[picture.label] for picture in found], dtype=np.int64)
