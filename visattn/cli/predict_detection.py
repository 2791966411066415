"""A detector's predictions: COCO's results, and the pictures with boxes drawn."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visattn.cli.pictures import batches, free_name
from visattn.maps.boxes import ROOM, draw_boxes
from visattn.maps.render import save_jpeg
from visattn.tasks.average_precision import found
from visattn.tasks.detection import DetectionTask
from visattn.tasks.found import SURE, marked, result_rows
from visattn.tasks.restore import Restored
from visattn.tasks.tables import write_json

NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def write(restored: Restored, files: Sequence[Path], bad: list[str], options: Namespace) -> str:
    """Write ``predictions.json``, ``categories.json`` and a picture each; a picture's id is its path."""
    task = restored.task
    assert isinstance(task, DetectionTask)
    threshold = SURE if options.threshold is None else options.threshold
    folder = options.out or Path("predictions")
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    drawn: set[str] = set()
    for paths, images in batches(files, restored, options.batch_size, bad):
        with torch.inference_mode():
            detections = task(images)
        for path, image, one in zip(paths, images, detections, strict=True):
            here = found(one, NOTHING)
            rows += result_rows(here, str(path), task.category_ids)
            size = max(ROOM, *image.shape[1:])
            picture = draw_boxes(image.permute(1, 2, 0), marked(here, task.class_names, threshold), size=size)
            save_jpeg(picture, folder / f"{free_name(path.stem, drawn)}.jpg")
    write_json(folder / "predictions.json", rows, indent=None)
    categories = zip(task.category_ids, task.class_names, strict=True)
    write_json(folder / "categories.json", [{"id": number, "name": name} for number, name in categories])
    return f"{len(rows)} boxes in {len(files) - len(bad)} pictures: {folder / 'predictions.json'}, drawn beside it"
