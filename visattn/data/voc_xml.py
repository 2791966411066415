"""Read a folder with boxes in Pascal VOC's xml, whose layout is found out."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from visattn.data.annotations import Annotations, ClassKey, Fault, Marked, Part, Shelf
from visattn.data.images import SUFFIXES, natural_key, pictures_under
from visattn.data.layouts import WORDS, few
from visattn.types import UsageError

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_NAN = [float("nan")] * 4
_LISTS: tuple[tuple[str, Part], ...] = (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test"))


def _child(folder: Path, *names: str) -> Path | None:
    """Return the subfolder with the first of these names that there is, in any case."""
    own = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir()} if folder.is_dir() else {}
    return next((own[name] for name in names if name in own), None)


def voc_home(root: Path) -> Path | None:
    """Return the folder that has ``Annotations`` with xml files: ``root``, or the one year inside it.

    Raises:
        UsageError: there are several years.
    """
    inner = _child(root, "vocdevkit") or root
    years = [one for one in sorted(inner.iterdir()) if one.is_dir() and one.name.lower().startswith("voc")]
    homes = [one for one in (root, inner, *years) if (own := _child(one, "annotations")) and any(own.glob("*.xml"))]
    homes = list(dict.fromkeys(homes))
    if len(homes) > 1:
        raise UsageError(f"{root} holds {few(one.name for one in homes)}; name one of them as the root")
    return homes[0] if homes else None


def split_folders(root: Path) -> dict[Part, Path]:
    """Return the split folders of ``root`` that have xml files beside their pictures."""
    own = {WORDS[one.name.lower()]: one for one in root.iterdir() if one.is_dir() and one.name.lower() in WORDS}
    return {split: own[split] for split in ("train", "val", "test") if split in own and any(own[split].glob("*.xml"))}


def _listed(file: Path) -> list[str]:
    """Return the names in a list file, without suffixes; a second column, as in a class's own list, is not read."""
    names = [line.split()[0] for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return [name.rpartition(".")[0] if name.lower().endswith((*SUFFIXES, ".xml")) else name for name in names]


def _lists(home: Path, notes: list[str]) -> dict[Part, list[str]]:
    """Return the names of each split as ``ImageSets/Main`` lists them; empty if it lists none."""
    sets = _child(home, "imagesets")
    folder = sets and (_child(sets, "main") or sets)
    if folder is None:
        return {}
    found = {part: _listed(folder / f"{name}.txt") for name, part in _LISTS if (folder / f"{name}.txt").is_file()}
    both = folder / "trainval.txt"
    if "train" not in found and both.is_file():
        inside = set(found.get("val", []))
        found["train"] = [name for name in _listed(both) if name not in inside]
        notes.append(f"{home} has no list train: that of trainval serves, val's pictures left out")
    return {part: names for part, names in found.items() if names}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _marked(path: Path, name: str, file: Path) -> Marked:
    """Return what one xml file says.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        tree = ET.fromstring(file.read_bytes())
    except (OSError, ET.ParseError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from error
    width, height = (_number(tree.findtext(f"size/{key}")) for key in ("width", "height"))
    size = (int(width), int(height)) if width > 0 and height > 0 else None  # some tools write 0 x 0
    boxes, classes, difficult = [], list[ClassKey](), []
    for one in tree.findall("object"):
        edges = [_number(one.findtext(f"bndbox/{edge}")) for edge in _EDGES]
        boxes.append(edges if np.isfinite(edges).all() else _NAN)
        classes.append((one.findtext("name") or "").strip())
        difficult.append(_number(one.findtext("difficult")) == 1)
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    return Marked(path, name, path.stem, size, corners, classes, difficult, [float("nan")] * len(boxes))


def _folder_parts(root: Path, notes: list[str]) -> list[tuple[Part, Path, Path, list[str]]]:
    """Return of each split its folder of pictures, its folder of xml files and the names in it."""
    home = voc_home(root)
    if home is None:
        return [
            (part, folder, folder, sorted((one.stem for one in folder.glob("*.xml")), key=natural_key))
            for part, folder in split_folders(root).items()
        ]
    marks = _child(home, "annotations") or home
    pictures = _child(home, "jpegimages", "images") or (marks if any(map(_is_picture, marks.iterdir())) else home)
    lists = _lists(home, notes)
    if not lists:
        lists = {"all": sorted((one.stem for one in marks.glob("*.xml")), key=natural_key)}
    return [(part, pictures, marks, names) for part, names in lists.items()]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_voc(root: Path) -> Annotations:
    """Return what the VOC files of ``root`` say.

    Raises:
        UsageError: there are none, or several data sets.
    """
    notes: list[str] = []
    faults: list[Fault] = []
    parts: dict[Part, list[Marked]] = {}
    shelf = Shelf()
    for part, pictures, marks, names in _folder_parts(root, notes):
        paths = {path.relative_to(pictures).with_suffix("").as_posix(): path for path in pictures_under(pictures)}
        parts[part] = []
        for stem in names:
            path, file = paths.get(stem), marks / f"{stem}.xml"
            if path is None:
                faults.append(Fault("missing pictures", f"{stem} in {pictures}"))
            if not shelf.has(file):
                faults.append(Fault("missing annotation files", f"{stem}.xml in {marks}"))
            elif path is not None:
                try:
                    parts[part].append(_marked(path, path.relative_to(root).as_posix(), file))
                except UsageError as error:
                    faults.append(Fault("broken files", str(error)))
    if not parts:
        raise UsageError(
            f"no VOC annotations in {root}; it must hold Annotations/*.xml with JPEGImages (and ImageSets/Main), or "
            "train, valid and test with xml files beside the pictures"
        )
    classes = {str(key) for own in parts.values() for one in own for key in one.classes}
    faults += [
        Fault("boxes of unknown classes", f"an object without a name in {one.name}")
        for own in parts.values() for one in own for key in one.classes if key == ""
    ]  # fmt: skip
    titles: dict[ClassKey, str] = {name: name for name in sorted(classes, key=natural_key)}
    return Annotations(root, "VOC", parts, titles, faults, notes)
