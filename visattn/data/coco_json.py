"""Read a folder with boxes in COCO's json, whose layout is found out."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from visattn.data.annotations import Annotations, ClassKey, Fault, Marked, Part, Shelf
from visattn.data.layouts import WORDS, few
from visattn.data.scenes import Split
from visattn.types import UsageError

_TRIED = 50  # pictures that are looked for to tell in which folder they lie
_OTHERS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")  # what else COCO's annotations/ holds
_NAN = (float("nan"),) * 4
_SHOWN = 10  # gaps among the ids of categories


def split_of(text: str) -> Split | None:
    """Return the split that a file's or folder's name means, if it means one.

    Example:
        >>> split_of("instances_train2017"), split_of("valid"), split_of("images")
        ('train', 'val', None)
    """
    found = {WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def coco_files(root: Path) -> list[Path]:
    """Return the files of ``root`` that may hold COCO annotations, by the first layout that fits."""
    own = [path for path in sorted(root.glob("annotations/*.json")) if not path.name.startswith(_OTHERS)]
    instances = [path for path in own if path.name.startswith("instances")]
    exported = [path for path in sorted(root.glob("*/_annotations.coco.json")) if split_of(path.parent.name)]
    inside = [path for path in sorted(root.glob("*/*.json")) if split_of(path.parent.name)]
    return instances or own or exported or inside or sorted(root.glob("*.json"))


def _files(root: Path) -> tuple[dict[Part, Path], list[str]]:
    """Return the file of each split, or one for all, and what was passed over."""
    found: dict[Part, Path] = {}
    passed = []
    files = coco_files(root)
    for path in files:
        part = split_of(path.stem) or (split_of(path.parent.name) if path.parent != root else None)
        if part is None:
            passed.append(path)
        elif part in found:
            raise UsageError(f"{root} has two files for {part}: {found[part].name} and {path.name}; keep one")
        else:
            found[part] = path
    if not found and len(files) == 1:
        return {"all": files[0]}, []
    if not found:
        raise UsageError(
            f"no COCO annotations in {root}; it must hold annotations/instances_train.json (and val, test), or "
            f"train/_annotations.coco.json, or one json file; found {few(path.name for path in files) or 'no json'}"
        )
    return found, [f"passed over, as no split is named: {few(path.name for path in passed)}"] if passed else []


def _folders(root: Path, file: Path, part: Part) -> list[Path]:
    """Return where the pictures of ``file`` may lie, likelier places first."""
    inner = root / "images"
    named = [
        folder
        for parent in (root, inner)
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and part in (split_of(folder.name), "all")
    ]
    suffix = file.stem.removeprefix("instances_")
    named.sort(key=lambda folder: folder.name != suffix)  # train2017 before train2014
    return [*named, file.parent, inner, root]


def _placed(names: list[str], folders: list[Path], shelf: Shelf) -> list[Path]:
    """Return the path of each picture: in the folder that has the most of the first ones, with or without their own."""
    tried = names[:_TRIED]
    ways = [(folder, bare) for bare in (False, True) for folder in folders]
    counts = [sum(shelf.has(folder / (Path(one).name if bare else one)) for one in tried) for folder, bare in ways]
    folder, bare = ways[max(range(len(ways)), key=lambda n: (counts[n], -n))]
    return [folder / (Path(one).name if bare else one) for one in names]


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is no json: {' '.join(str(error).split())}") from error
    wanted = ("images", "annotations", "categories")
    lacking = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise UsageError(f"{file} has no list of {lacking[0]}; COCO's format has lists of {', '.join(wanted)}")
    if not content["images"]:
        raise UsageError(f"{file} lists no pictures")
    return content


def _corners(box: Any) -> tuple[float, ...]:
    """Return xyxy of COCO's ``[x, y, width, height]``, NaN where it is none."""
    try:
        x, y, width, height = (float(edge) for edge in box)
    except (TypeError, ValueError):
        return _NAN
    corners = (x, y, x + width, y + height)
    return corners if np.isfinite(corners).all() else _NAN


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    width, height = (int(entry.get(key) or 0) for key in ("width", "height"))
    return (width, height) if width > 0 and height > 0 else None


def _marked(
    content: dict[str, Any], paths: list[Path], root: Path, titles: dict[ClassKey, str], faults: list[Fault]
) -> list[Marked]:
    """Return the pictures of one file; boxes without a picture or a class become faults."""
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for box in content["annotations"]:
        by_image[box["image_id"]].append(box)
    marked = []
    counts = Counter(
        key for key, _ in {(entry["id"], path) for entry, path in zip(content["images"], paths, strict=True)}
    )
    faults += [Fault("picture ids given twice", f"image_id {key}") for key, count in counts.items() if count > 1]
    for entry, path in zip(content["images"], paths, strict=True):
        own = by_image.pop(entry["id"], [])
        name = path.relative_to(root).as_posix()
        known = [box for box in own if box["category_id"] in titles]
        faults += [
            Fault("boxes of unknown classes", f"category {box['category_id']} in {name}")
            for box in own if box["category_id"] not in titles
        ]  # fmt: skip
        boxes = np.array([_corners(box.get("bbox")) for box in known], np.float64).reshape(-1, 4)
        crowds = [bool(box.get("iscrowd") or box.get("ignore")) for box in known]
        areas = [float(box.get("area") or "nan") for box in known]
        keys: list[ClassKey] = [box["category_id"] for box in known]
        marked.append(Marked(path, name, entry["id"], _size(entry), boxes, keys, crowds, areas))
    for image_id, lost in by_image.items():
        faults += [Fault("boxes of no listed picture", f"image_id {image_id}")] * len(lost)
    return marked


def read_coco(root: Path) -> Annotations:
    """Return what the COCO files of ``root`` say.

    Raises:
        UsageError: there are none, or two for a split.
    """
    files, notes = _files(root)
    shelf, faults = Shelf(), list[Fault]()
    contents: dict[Part, dict[str, Any]] = {}
    titles: dict[ClassKey, str] = {}
    for part, file in files.items():
        try:
            contents[part] = _load(file)
            for entry in contents[part]["categories"]:
                key, name = entry["id"], str(entry["name"])
                if titles.setdefault(key, name) != name:
                    faults.append(Fault("classes with two names", f"category {key}: '{titles[key]}' and '{name}'"))
        except (UsageError, KeyError, TypeError) as error:
            faults.append(Fault("broken files", _reason(file, error)))
            contents.pop(part, None)
    titles = dict(sorted(titles.items(), key=lambda item: (isinstance(item[0], str), item[0])))
    parts: dict[Part, list[Marked]] = {}
    for part, content in contents.items():
        try:
            names = [str(entry["file_name"]).replace("\\", "/").lstrip("/") for entry in content["images"]]
            paths = _placed(names, _folders(root, files[part], part), shelf)
            parts[part] = _marked(content, paths, root, titles, faults)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            faults.append(Fault("broken files", _reason(files[part], error)))
            continue
        faults += [Fault("missing pictures", one.name) for one in parts[part] if not shelf.has(one.path)]
    return Annotations(root, "COCO", parts, titles, faults, notes + _id_notes(titles))


def _reason(file: Path, error: Exception) -> str:
    if isinstance(error, UsageError):
        return str(error)
    return f"{file} has an entry without {error}" if isinstance(error, KeyError) else f"{file}: {error}"


def _id_notes(titles: Iterable[ClassKey]) -> list[str]:
    """Return what is unusual about the ids of the categories; the classes are numbered from 0 anyway."""
    ids = [key for key in titles if isinstance(key, int)]
    notes = []
    if ids and min(ids) < 1:
        notes.append(f"category ids start at {min(ids)}; COCO's own start at 1")
    ordered = sorted(set(ids))
    missing = (key for a, b in pairwise(ordered) for key in range(a + 1, b))
    if gaps := list(islice(missing, _SHOWN)):  # an id of 10**9 leaves as many out
        more = ordered[-1] - ordered[0] + 1 - len(ordered) - len(gaps)
        listed = ", ".join(map(str, gaps)) + (f" and {more} more" if more else "")
        notes.append(f"category ids have gaps: {listed} of {ordered[0]} to {ordered[-1]}")
    return notes
