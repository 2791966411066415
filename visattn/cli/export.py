"""``visattn export``: a checkpoint as ONNX or a torch.export archive, checked against the network."""

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

FORMATS = ("onnx", "pt2")


class Writer(Protocol):
    """What a task's file here offers."""

    def __call__(self, restored: Restored, options: Namespace) -> float:
        """Write ``options.out`` and return by how much what is read back differs from torch."""


def run(args: Sequence[str]) -> int:
    """Export a checkpoint."""
    parser = Parser(
        "export", "write a checkpoint as one file that runs without visattn; classes and normalisation are in it"
    )
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--format", default="onnx", help="onnx, or pt2: an archive of torch.export")
    parser.add_argument("--out", type=Path, default=None, help="the file to write; by default model.FORMAT")
    parser.add_argument("--with-maps", action="store_true", help="give every attention map as a named output")
    parser.add_argument("--pictures", help="of a detector: what to compare on; else test pictures of the run folder")
    options = parser.parse_args(args)
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS)
    options.out = options.out or Path(f"model.{options.format}")
    from visattn.tasks.restore import restore

    restored = restore(options.checkpoint)
    write: Writer = import_module(f"visattn.cli.export_{restored.task.kind}").write
    difference = write(restored, options)
    size = options.out.stat().st_size / 2**20
    reader = {"onnx": "onnxruntime", "pt2": "the archive"}[options.format]
    print(f"{options.out}: {size:.1f} MB; {reader} differs from torch by at most {difference:.1e}")
    return 0
