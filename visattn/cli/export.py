"""``visattn export``: a checkpoint as ONNX, checked in onnxruntime."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from visattn.cli.parser import Parser
from visattn.types import unknown

if TYPE_CHECKING:
    from visattn.tasks.restore import Restored

FORMATS = ("onnx",)


class Writer(Protocol):
    """What a task's file here offers."""

    def __call__(self, restored: Restored, options: Namespace) -> float:
        """Write ``options.out`` and return by how much onnxruntime differs from torch."""


def run(args: Sequence[str]) -> int:
    """Export a checkpoint."""
    parser = Parser("export", "write a checkpoint as ONNX, with its classes and normalisation in the file")
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--format", default="onnx", help="onnx")
    parser.add_argument("--out", type=Path, default=Path("model.onnx"), help="the file to write")
    parser.add_argument("--with-maps", action="store_true", help="give every attention map as a named output")
    parser.add_argument("--pictures", help="of a detector: what to compare on; else test pictures of the run folder")
    options = parser.parse_args(args)
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS)
    from visattn.tasks.restore import restore

    restored = restore(options.checkpoint)
    write: Writer = import_module(f"visattn.cli.export_{restored.task.kind}").write
    difference = write(restored, options)
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {size:.1f} MB; onnxruntime differs from torch by at most {difference:.1e}")
    return 0
