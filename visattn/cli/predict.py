"""``visattn predict``: name the pictures of a folder, or what is in them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from visattn.cli.parser import Parser
from visattn.data.images import find_images
from visattn.tasks.restore import Restored, restore
from visattn.types import UsageError


class Writer(Protocol):
    """What a task's file here offers."""

    def __call__(self, restored: Restored, files: Sequence[Path], bad: list[str], options: Namespace) -> str:
        """Write the predictions of ``files`` and return a line that says so.

        Args:
            restored: the trained task.
            files: the pictures.
            bad: takes the reasons of pictures that are left out.
            options: ``out``, None for the task's usual place; ``batch_size``; ``threshold``.
        """


def run(args: Sequence[str]) -> int:
    """Write predictions."""
    parser = Parser(
        "predict",
        "a classifier names the pictures of a folder in a CSV with every class's probability; a detector writes "
        "what it finds as COCO results, and pictures with the boxes drawn",
    )
    parser.add_argument("pictures", nargs="+", help="a folder, or picture files")
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--out", type=Path, help="the CSV or, of a detector, the folder to write; else predictions")
    parser.add_argument("--batch_size", type=int, help="pictures at a time; else 32, of a detector 4")
    parser.add_argument("--threshold", type=float, help="of a detector: the lowest score of a drawn box; else 0.4")
    options = parser.parse_args(args)
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch_size must be at least 1, got {options.batch_size}")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold must be 0 to 1, got {options.threshold}")
    restored = restore(options.checkpoint)
    files = find_images(options.pictures[0] if len(options.pictures) == 1 else options.pictures)
    write: Writer = import_module(f"visattn.cli.predict_{restored.task.kind}").write
    bad: list[str] = []
    options.batch_size = options.batch_size or restored.task.batch
    line = write(restored, files, bad, options)
    for text in bad:
        print(f"visattn: left out: {text}", file=sys.stderr)
    print(line)
    return 1 if bad else 0
