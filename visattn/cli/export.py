"""``visattn export``: a checkpoint as ONNX, checked in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from visattn.cli.parser import Parser
from visattn.types import unknown

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("onnx",)


def run(args: Sequence[str]) -> int:
    """Export a checkpoint."""
    parser = Parser("export", "write a checkpoint as ONNX, with its classes and normalisation in the file")
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--format", default="onnx", help="onnx")
    parser.add_argument("--out", type=Path, default=Path("model.onnx"), help="the file to write")
    parser.add_argument("--with-maps", action="store_true", help="give every attention map as a named output")
    options = parser.parse_args(args)
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS)
    from visattn.export.onnx import export_onnx
    from visattn.tasks.restore import restore

    restored = restore(options.checkpoint)
    task = restored.task
    mean, std = (cast("Tensor", values).flatten().tolist() for values in (task.mean, task.std))
    metadata = {
        "class_names": json.dumps(task.class_names),
        "image_size": str(restored.image_size),
        "mean": json.dumps([round(v, 6) for v in mean]),
        "std": json.dumps([round(v, 6) for v in std]),
    }
    difference = export_onnx(
        task.network, options.out, restored.image_size, metadata=metadata, with_maps=options.with_maps
    )
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {size:.1f} MB; onnxruntime differs from torch by at most {difference:.1e}")
    return 0
