"""Look a folder of pictures over before training: what is missing, broken, doubtful, doubled or leaks."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visattn.data.annotations import FAULTS, Annotations, Located, examine, grouped, with_fate
from visattn.data.coco_json import coco_files, read_coco
from visattn.data.images import pictures_under, read_image
from visattn.data.layouts import read_layout
from visattn.data.objects import Objects
from visattn.data.scenes import Split
from visattn.data.voc_xml import read_voc, split_folders, voc_home
from visattn.types import UsageError

FEW = 10  # boxes, or pictures, of a class in train that are called few


class Finding(NamedTuple):
    """One kind of thing that was found."""

    problem: bool  # training would be impossible, or its figures wrong
    what: str
    where: list[str]


class Report(NamedTuple):
    """All that a look over a folder tells."""

    root: Path
    form: str  # for people: COCO, VOC or "a class each"
    class_names: list[str]
    counts: dict[Split, NDArray[np.int64]]  # (K,): boxes of each class, or pictures
    pictures: dict[Split, list[Located]]
    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        """The findings that must be mended."""
        return [one for one in self.findings if one.problem]


class _Look(NamedTuple):
    size: tuple[int, int] | None  # None: it cannot be read
    digest: bytes
    reason: str


def check_folder(root: str | Path, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Report:
    """Look over every picture and annotation of a folder.

    Args:
        root: a folder as ``CocoData``, ``VocData`` or ``FolderData`` takes it.
        seed: draws the splits that the folder does not give.
        progress: is told how many pictures of how many were read.

    Returns:
        What was found. Every picture is read once and decoded, on all cores.

    Raises:
        UsageError: there is no such folder, or it is laid out in no known way.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UsageError(f"no such folder: {root}")
    found = _annotations(root)
    if found is None:
        names, pictures, notes = _labelled(root, seed)
        findings = [Finding(False, note, []) for note in notes]
        form = "pictures with a class each"
    else:
        names, pictures, findings = _boxed(found, seed)
        form = f"{found.form} boxes"
    pictures = {split: own for split, own in pictures.items() if split != "test" or own != pictures.get("val")}
    looks = _look_at([one.path for own in pictures.values() for one in own], progress)
    findings += [one for one in _of_pictures(root, pictures, looks) if one.where]
    counts = {
        split: np.bincount([label for one in own for label in one.objects.labels.tolist()], minlength=len(names))
        for split, own in pictures.items()
    }
    findings += [one for one in _of_classes(names, counts) if one.where]
    return Report(root, form, names, counts, pictures, sorted(findings, key=lambda one: not one.problem))


def _annotations(root: Path) -> Annotations | None:
    """Return what the annotation files say; None if the folder has none, so that folders are the classes."""
    if not (root / "labels.csv").is_file():
        if voc_home(root) or split_folders(root):
            return read_voc(root)
        files = coco_files(root)
        # a json beside class folders may be anything
        if any(file.parent != root or b'"annotations"' in file.read_bytes() for file in files):
            return read_coco(root)
    return None


def _labelled(root: Path, seed: int) -> tuple[list[str], dict[Split, list[Located]], list[str]]:
    listing = read_layout(root, seed)
    nowhere = np.empty((0, 4), np.float32)
    pictures = {
        split: [Located(path, name, name, (0, 0), Objects.of(nowhere, [label])) for path, name, label in own]
        for split, own in listing.splits.items()
    }
    return listing.class_names, pictures, listing.notes


def _boxed(found: Annotations, seed: int) -> tuple[list[str], dict[Split, list[Located]], list[Finding]]:
    try:
        listing, faults = examine(found, seed)
        names, pictures, notes = listing.class_names, listing.splits, listing.notes
        findings: list[Finding] = []
    except UsageError as error:  # there is no split left to train on
        names, pictures, notes, faults = [], {}, found.notes, found.faults
        findings = [Finding(True, str(error), [])]
    findings += [Finding(FAULTS[kind] is None, with_fate(kind), places) for kind, places in grouped(faults).items()]
    findings += [Finding(False, note, []) for note in notes]
    missing = {place for kind, places in grouped(faults).items() if kind == "missing pictures" for place in places}
    pictures = {split: [one for one in own if one.name not in missing] for split, own in pictures.items()}
    empty = [f"{one.name} ({split})" for split, own in pictures.items() for one in own if not len(one.objects.labels)]
    if empty:
        findings.append(Finding(False, "pictures without boxes (trained on, as examples of nothing)", empty))
    return names, pictures, findings


def _look_at(paths: list[Path], progress: Callable[[int, int], None] | None) -> dict[Path, _Look]:
    """Read and decode each picture, on all cores: decoders let other threads run."""
    wanted = list(dict.fromkeys(paths))
    looks: dict[Path, _Look] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, look in zip(wanted, pool.map(_look, wanted), strict=True):
            looks[path] = look
            if progress:
                progress(len(looks), len(wanted))
    return looks


def _look(path: Path) -> _Look:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
        height, width = read_image(path).shape[:2]
    except (OSError, UsageError) as error:
        return _Look(None, b"", str(error))
    return _Look((width, height), digest, "")


def _of_pictures(root: Path, pictures: dict[Split, list[Located]], looks: dict[Path, _Look]) -> Iterator[Finding]:
    whole = [(split, one, looks[one.path]) for split, own in pictures.items() for one in own]
    yield Finding(True, "pictures that cannot be read", [look.reason for _, _, look in whole if look.size is None])
    sizes = [
        f"{one.name} ({one.size[0]}x{one.size[1]} stated, {look.size[0]}x{look.size[1]} found)"
        for _, one, look in whole if look.size and one.size not in (look.size, (0, 0))
    ]  # fmt: skip
    yield Finding(True, "sizes unlike those of the pictures", sizes)
    same: dict[object, list[tuple[Split, str]]] = defaultdict(list)
    source: dict[object, list[tuple[Split, str]]] = defaultdict(list)
    for split, one, look in whole:
        if look.size:
            same[look.digest].append((split, one.name))
        # Roboflow writes a photograph and its variants as name.rf.<hash>.jpg
        source[one.path.stem.partition(".rf.")[0]].append((split, one.name))
    leaks = {key: own for key, own in same.items() if len({split for split, _ in own}) > 1}
    yield Finding(True, "pictures that are in two splits, byte for byte", [_pair(own) for own in leaks.values()])
    doubles = [_pair(own) for key, own in same.items() if len(own) > 1 and key not in leaks]
    yield Finding(False, "pictures that are twice in a split, byte for byte", doubles)
    leaked = {name for own in leaks.values() for _, name in own}
    named = [
        _pair(own)
        for own in source.values() if len({split for split, _ in own}) > 1 and not leaked & {name for _, name in own}
    ]  # fmt: skip
    yield Finding(False, "pictures of the same name in two splits: perhaps the same photograph", named)
    listed = {one.path for own in pictures.values() for one in own}
    unlisted = [path.relative_to(root).as_posix() for path in pictures_under(root) if path not in listed]
    yield Finding(False, "pictures that no split lists", unlisted)


def _pair(own: list[tuple[Split, str]]) -> str:
    return " = ".join(f"{name} ({split})" for split, name in islice(own, 3))


def _of_classes(names: list[str], counts: dict[Split, NDArray[np.int64]]) -> Iterator[Finding]:
    train = counts.get("train")
    if train is None:
        return
    held = {split: own for split, own in counts.items() if split != "train"}
    unknown = [
        f"{name} ({', '.join(f'{own[k]} in {split}' for split, own in held.items() if own[k])})"
        for k, name in enumerate(names) if not train[k]
    ]  # fmt: skip
    yield Finding(True, "classes that train lacks: nothing can learn them", unknown)
    rare = [f"{name} ({train[k]})" for k, name in enumerate(names) if 0 < train[k] < FEW]
    yield Finding(False, f"classes of which train has fewer than {FEW}", rare)
    for split, own in held.items():
        lacking = [name for k, name in enumerate(names) if not own[k]]
        yield Finding(False, f"classes that {split} lacks: they have no figure there", lacking)
