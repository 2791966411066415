"""How a folder says which picture belongs to which class and split: by a labels.csv, by split folders, by classes."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from visattn.data.images import SUFFIXES, natural_key, pictures_under
from visattn.data.scenes import SPLITS, Split
from visattn.types import UsageError

HELD_OUT = 0.15  # share of each class that a drawn split puts aside, once for val and once for test

_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
WORDS: dict[str, Split] = {word: split for split, words in _FOLDERS.items() for word in words} | {"dev": "val"}
_HEADERS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img"),
    "label": ("label", "target", "label_id", "class_id", "category"),
    "class": ("class", "class_name", "classname", "label_name"),
    "split": ("split", "set", "subset", "partition"),
}


class Entry(NamedTuple):
    """One labelled picture."""

    path: Path
    name: str  # the path relative to the folder, with slashes
    label: str


class Listing(NamedTuple):
    """What a folder holds."""

    class_names: list[str]
    splits: dict[Split, list[tuple[Path, str, int]]]  # path, name, place in class_names
    notes: list[str]  # what the reader had to decide by itself


def few(names: Iterable[object], count: int = 3) -> str:
    """Return the first names, and how many more there are.

    Example:
        >>> few("abcde")
        'a, b, c and 2 more'
    """
    shown = [str(name) for name in names]
    return ", ".join(shown[:count]) + (f" and {len(shown) - count} more" if len(shown) > count else "")


def draw(entries: Sequence[Entry], seed: int, parts: Sequence[Split]) -> dict[Split, list[Entry]]:
    """Deal ``entries`` out by class: ``HELD_OUT`` of each to every split of ``parts``, the rest to train."""
    dealt: dict[Split, list[Entry]] = {"train": [], **{part: [] for part in parts}}
    by_label: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_label[entry.label].append(entry)
    for own in by_label.values():
        # by hash of the name, so that a picture more or less moves few others
        own.sort(key=lambda entry: hashlib.sha256(f"{seed}/{entry.name}".encode()).digest())
        enough = len(own) > len(parts)  # a class of one or two pictures is for training
        count = max(1, round(HELD_OUT * len(own))) if enough else 0
        for place, part in enumerate(parts):
            dealt[part] += own[place * count : (place + 1) * count]
        dealt["train"] += own[len(parts) * count :]
    if not all(dealt[part] for part in parts):
        raise UsageError(
            f"no class has the {len(parts) + 1} pictures that a split into train, {', '.join(parts)} needs"
        )
    order = {entry.name: place for place, entry in enumerate(entries)}
    return {split: sorted(own, key=lambda entry: order[entry.name]) for split, own in dealt.items()}


def complete(found: dict[Split, list[Entry]], where: Path, seed: int) -> tuple[dict[Split, list[Entry]], list[str]]:
    """Return ``found`` with the splits that are missing drawn from it, and notes that say so."""
    notes = []
    if not found.get("train"):
        raise UsageError(f"{where} has no training pictures; its splits: {few(found) or 'none'}")
    if not found.get("val"):
        found = found | draw(found["train"], seed, ["val"])
        notes.append(f"{where} has no validation split: {HELD_OUT:.0%} of train serve as val")
    if not found.get("test"):
        found = found | {"test": found["val"]}
        notes.append(f"{where} has no test split: val serves as test too, so test figures are not independent of it")
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    return found, notes


def _by_class(folder: Path, root: Path) -> list[Entry]:
    """Return the pictures of the class folders in ``folder``."""
    entries = []
    folders = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: natural_key(one.name))
    for own in folders:
        if not own.name.startswith((".", "__MACOSX")):
            entries += [Entry(path, path.relative_to(root).as_posix(), own.name) for path in pictures_under(own)]
    return entries


def _all_by_class(folder: Path, root: Path) -> list[Entry]:
    """Do the same for a folder that defines the classes: one without pictures would vanish without a word."""
    entries = _by_class(folder, root)
    filled = {entry.label for entry in entries}
    empty = [one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
    empty = sorted(set(empty) - filled, key=natural_key)
    if entries and empty:
        raise UsageError(
            f"no pictures in {len(empty)} class folders of {folder}: {few(empty)}; "
            f"fill or remove them; known suffixes: {' '.join(SUFFIXES)}"
        )
    return entries


def _split_folders(root: Path) -> dict[Split, list[Entry]]:
    """Return the splits that folders named after them hold; empty if there is no such train folder."""
    own = {one.name.lower(): one for one in root.iterdir() if one.is_dir()}
    found: dict[Split, list[Entry]] = {}
    for split, words in _FOLDERS.items():
        present = [own[word] for word in words if word in own]
        if len(present) > 1:
            raise UsageError(f"{root} has more than one {split} folder: {few(one.name for one in present)}; keep one")
        reader = _all_by_class if split == "train" else _by_class
        found[split] = reader(present[0], root) if present else []
    return found if found["train"] else {}


def _header(row: Sequence[str], file: Path) -> dict[str, int]:
    """Return the column of each thing that the table knows."""
    names = [name.strip().lower().replace(" ", "_") for name in row]
    columns = {}
    for what, aliases in _HEADERS.items():
        places = [names.index(alias) for alias in aliases if alias in names]
        if places:
            columns[what] = places[0]
    for what, others in (("path", ("path",)), ("label", ("label", "class"))):
        if not columns.keys() & set(others):
            raise UsageError(
                f"{file} has no column '{what}' (or {', '.join(_HEADERS[what][1:])}); columns: {few(row, 12)}"
            )
    columns.setdefault("label", columns.get("class", 0))
    return columns


def _rows(file: Path) -> tuple[dict[str, int], list[list[str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file} as UTF-8 text: {error}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise UsageError(f"{file} lists no pictures")
    columns, body = _header(rows[0], file), rows[1:]
    short = [row[0] for row in body if len(row) <= max(columns.values())]
    if short:
        raise UsageError(f"{len(short)} rows of {file} have fewer columns than its header: {few(short)}")
    return columns, body


def _table(file: Path, seed: int) -> tuple[dict[Split, list[Entry]], dict[str, str], list[str]]:
    """Return splits, the shown name of each label, and notes of a ``labels.csv``."""
    columns, rows = _rows(file)
    cells = {what: [row[place].strip() for row in rows] for what, place in columns.items()}
    paths = [path.replace("\\", "/") for path in cells["path"]]
    entries = [Entry(file.parent / path, path, label) for path, label in zip(paths, cells["label"], strict=True)]
    _check_rows(entries, file)
    titles = _titles(cells, file)
    if "split" not in cells:
        return (
            draw(entries, seed, ["val", "test"]),
            titles,
            [f"{file} has no split column: {HELD_OUT:.0%} each are val and test"],
        )
    strange = Counter(word for word in cells["split"] if word.lower() not in WORDS)
    if strange:
        known = ", ".join(sorted(WORDS))
        raise UsageError(f"unknown split '{next(iter(strange))}' in {strange.total()} rows of {file}; valid: {known}")
    found: dict[Split, list[Entry]] = {split: [] for split in SPLITS}
    for entry, word in zip(entries, cells["split"], strict=True):
        found[WORDS[word.lower()]].append(entry)
    found, notes = complete({split: own for split, own in found.items() if own}, file, seed)
    return found, titles, notes


def _check_rows(entries: Sequence[Entry], file: Path) -> None:
    empty = [entry.name for entry in entries if not entry.label]
    if empty:
        raise UsageError(f"{len(empty)} rows of {file} have no label: {few(empty)}")
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise UsageError(f"{len(twice)} pictures are listed more than once in {file}: {few(twice)}")
    missing = [entry.name for entry in entries if not entry.path.is_file()]
    if missing:
        raise UsageError(f"{len(missing)} of {len(entries)} pictures of {file} do not exist: {few(missing)}")


def _titles(cells: dict[str, list[str]], file: Path) -> dict[str, str]:
    """Return what each label is called: its ``class``, made unique by the label where two share one."""
    titles: dict[str, str] = {}
    for label, title in zip(cells["label"], cells.get("class", cells["label"]), strict=True):
        if titles.setdefault(label, title or label) != (title or label):
            raise UsageError(f"label '{label}' of {file} has two class names: '{titles[label]}' and '{title}'")
    shared = Counter(titles.values())
    return {label: title if shared[title] == 1 else f"{title} ({label})" for label, title in titles.items()}


def read_layout(root: Path, seed: int) -> Listing:
    """Return what ``root`` holds: by its ``labels.csv``, else its split folders, else its class folders.

    Args:
        root: the folder.
        seed: draws the splits that the folder does not give.

    Raises:
        UsageError: the folder is missing or empty, has one class, or contradicts itself.
    """
    if not root.is_dir():
        raise UsageError(
            f"root must be a folder with pictures, but {root} is {'a file' if root.exists() else 'missing'}"
        )
    titles: dict[str, str] = {}
    if (root / "labels.csv").is_file():
        found, titles, notes = _table(root / "labels.csv", seed)
    elif found := _split_folders(root):
        found, notes = complete({split: own for split, own in found.items() if own}, root, seed)
    else:
        entries = _all_by_class(root, root)
        if entries and {entry.label.lower() for entry in entries} <= WORDS.keys():
            raise UsageError(f"the split folders of {root} hold pictures but no class folders; add a folder a class")
        if not entries:
            raise UsageError(
                f"no pictures in {root}; it must hold labels.csv, or train/ val/ test/ with a folder a class, "
                f"or a folder a class, with files {' '.join(SUFFIXES)}"
            )
        _check_classes(root, {"train": entries})
        found = draw(entries, seed, ["val", "test"])
        notes = [f"{root} has no split folders: {HELD_OUT:.0%} of each class are val and {HELD_OUT:.0%} test"]
    labels = _check_classes(root, found)
    place = {label: index for index, label in enumerate(labels)}
    splits = {split: [(one.path, one.name, place[one.label]) for one in found[split]] for split in SPLITS}
    return Listing([titles.get(label, label) for label in labels], splits, notes)


def _check_classes(root: Path, found: dict[Split, list[Entry]]) -> list[str]:
    """Return the labels of train in natural order; refuse fewer than two, and others elsewhere."""
    labels = sorted({entry.label for entry in found["train"]}, key=natural_key)
    if len(labels) < 2:
        raise UsageError(f"{root} has one class, '{few(labels)}'; classification needs at least 2")
    for split, own in found.items():
        strange = sorted({entry.label for entry in own} - set(labels), key=natural_key)
        if strange:
            raise UsageError(
                f"classes of {split} in {root} are not in train: {few(strange)}; train has {few(labels, 10)}"
            )
    return labels
