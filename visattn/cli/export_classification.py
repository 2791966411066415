"""A classifier as ONNX or a torch.export archive."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import cast

from torch import Tensor

from visattn.export import export_onnx, export_program
from visattn.tasks.restore import Restored


def write(restored: Restored, options: Namespace) -> float:
    """Write the network for normalised squares of the size that it was trained on."""
    task = restored.task
    mean, std = (cast("Tensor", values).flatten().tolist() for values in (task.mean, task.std))
    metadata = {
        "class_names": json.dumps(task.class_names),
        "image_size": str(restored.image_size),
        "mean": json.dumps([round(v, 6) for v in mean]),
        "std": json.dumps([round(v, 6) for v in std]),
    }
    export = {"onnx": export_onnx, "pt2": export_program}[options.format]
    return export(task.network, options.out, restored.image_size, metadata=metadata, with_maps=options.with_maps)
