"""Small folders with boxes, written in each layout that CocoData and VocData know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
# split -> name -> boxes as (class, x1, y1, x2, y2); the last picture of train is empty
CONTENT: dict[str, dict[str, list[tuple[Any, ...]]]] = {
    "train": {
        "a": [("cat", 1, 2, 11, 22), ("dog", 20, 5, 39, 29)],
        "b": [("dog", 0, 0, 40, 30)],
        "c": [("cat", 5, 5, 9.5, 10.25), ("cat", 11, 5, 20, 10)],
        "d": [],
    },
    "val": {"e": [("dog", 3, 4, 13, 14)], "f": [("cat", 7, 8, 9, 12)]},
    "test": {"g": [("cat", 2, 2, 12, 12), ("dog", 15, 15, 30, 25)]},
}
IDS = {"cat": 3, "dog": 7}
CATEGORIES = [{"id": 0, "name": "pets"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def draw(path: Path, shade: int = 0) -> None:
    """Write a picture that differs from all others by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH, 3), shade + 3 * sum(map(ord, path.stem)) % 200, np.uint8)
    Image.fromarray(pixels).save(path)


def coco_json(pictures: dict[str, list[tuple[Any, ...]]], prefix: str = "", first: int = 0) -> dict[str, Any]:
    """Return COCO's json of some pictures; ids of pictures start at ``first`` and go up by 2."""
    ids = {name: first + 2 * place for place, name in enumerate(pictures)}
    boxes = [(ids[name], box) for name, own in pictures.items() for box in own]
    return {
        "images": [
            {"id": ids[name], "file_name": f"{prefix}{name}.png", "width": WIDTH, "height": HEIGHT} for name in pictures
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": IDS[name], "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0,
             "area": (x2 - x1) * (y2 - y1) / 2}
            for n, (image, (name, x1, y1, x2, y2)) in enumerate(boxes)
        ],
        "categories": CATEGORIES,
    }  # fmt: skip


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` where there may be no folder yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(root: Path, names: dict[str, str], pictures: str, file: str, prefix: str = "") -> None:
    """Write a COCO folder: ``pictures`` and ``file`` are patterns in which ``{}`` is the split's word."""
    for split, word in names.items():
        folder = root / pictures.format(word)
        for name in CONTENT[split]:
            draw(folder / f"{name}.png")
        write_json(root / file.format(word), coco_json(CONTENT[split], prefix))


def voc_xml(boxes: list[tuple[Any, ...]], size: str = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"):
    """Return VOC's xml of one picture."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><part><name>head</name><bndbox><xmin>0</xmin></bndbox>"
        f"</part><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    return f"<annotation><filename>any.png</filename>{size}{objects}</annotation>"


def voc(
    root: Path, lists: dict[str, list[str]] | None, pictures: str = "JPEGImages", marks: str = "Annotations"
) -> None:
    """Write a VOC folder with all pictures; ``lists`` says which splits each list file holds."""
    for own in CONTENT.values():
        for name, boxes in own.items():
            draw(root / pictures / f"{name}.png")
            (root / marks).mkdir(parents=True, exist_ok=True)
            (root / marks / f"{name}.xml").write_text(voc_xml(boxes))
    for file, splits in (lists or {}).items():
        (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        names = [name for split in splits for name in CONTENT[split]]
        (root / "ImageSets/Main" / f"{file}.txt").write_text("\n".join(names) + "\n")


def voc_split_folders(root: Path) -> None:
    """Write VOC's xml beside the pictures, as Roboflow exports it."""
    for split, word in (("train", "train"), ("val", "valid"), ("test", "test")):
        for name, boxes in CONTENT[split].items():
            draw(root / word / f"{name}.png")
            (root / word / f"{name}.xml").write_text(voc_xml(boxes))


PLAIN = {"train": "train", "val": "val", "test": "test"}
EXPORT = {**PLAIN, "val": "valid"}
YEARS = {"train": "train2017", "val": "val2017", "test": "test2017"}
LISTS = {"train": ["train"], "val": ["val"], "test": ["test"]}

COCO = {
    "split folders": lambda root: coco(root, EXPORT, "{}", "annotations/instances_{}.json"),
    "COCO's own": lambda root: coco(root, YEARS, "{}", "annotations/instances_{}.json"),
    "inside images": lambda root: coco(root, YEARS, "images/{}", "annotations/instances_{}.json"),
    "one picture folder": lambda root: coco(root, PLAIN, "images", "annotations/{}.json"),
    "foreign paths": lambda root: coco(root, PLAIN, "images", "annotations/{}.json", "C:\\home\\me\\"),
    "roboflow": lambda root: coco(root, EXPORT, "{}", "{}/_annotations.coco.json"),
    "json in the root": lambda root: coco(root, PLAIN, "{}", "{}.json"),
}
VOC = {
    "VOC's own": lambda root: voc(root, LISTS),
    "with trainval": lambda root: voc(root, {**LISTS, "trainval": ["train", "val"]}),
    "trainval and val": lambda root: voc(root, {"trainval": ["train", "val"], "val": ["val"], "test": ["test"]}),
    "devkit": lambda root: voc(root / "VOCdevkit/VOC2007", LISTS),
    "other names": lambda root: voc(root, LISTS, "images", "annotations"),
    "split folders": voc_split_folders,
}
