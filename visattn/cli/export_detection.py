"""A detector as ONNX."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visattn.data.images import find_images, read_image
from visattn.export.detector import export_detector
from visattn.tasks.detection import DetectionTask, as_floats
from visattn.tasks.restore import Restored, restore_data
from visattn.types import UsageError

COMPARED = 3  # pictures


def write(restored: Restored, options: Namespace) -> float:
    """Write the detector for one picture of any size, compared on real ones.

    Raises:
        UsageError: maps or another format are asked for, or there is no picture to compare on.
    """
    task = restored.task
    assert isinstance(task, DetectionTask)
    if options.format != "onnx":
        raise UsageError(f"--format {options.format} is of classifiers; valid for a detector: onnx")
    if options.with_maps:
        raise UsageError("--with-maps is of classifiers; visattn maps draws those of a detector")
    metadata = {"class_names": json.dumps(task.class_names), "category_ids": json.dumps(task.category_ids)}
    return export_detector(task.network, options.out, check=_pictures(options), metadata=metadata)


def _pictures(options: Namespace) -> list[Tensor]:
    if options.pictures is not None:
        images = [read_image(path) for path in find_images(options.pictures)[:COMPARED]]
    elif Path(options.checkpoint).is_dir():
        data: Any = restore_data(options.checkpoint)
        dataset = data.dataset("test")
        images = [dataset.picture(i) for i in range(min(COMPARED, len(dataset)))]
    else:
        raise UsageError("a detector's export is compared on pictures; valid: --pictures FOLDER, or a run folder")
    return [as_floats(torch.from_numpy(image).permute(2, 0, 1)) for image in images]
