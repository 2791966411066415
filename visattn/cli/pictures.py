"""The pictures that a command is given, as a trained network takes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from visattn.data.images import read_image
from visattn.tasks.restore import Restored
from visattn.types import UsageError


def batches(
    files: Sequence[Path], restored: Restored, size: int, bad: list[str]
) -> Iterator[tuple[list[Path], list[Tensor]]]:
    """Yield paths and uint8 images ``(3, H, W)``; pictures that cannot be read go to ``bad``, with the reason."""
    prepare = restored.task.preparation(restored.data)
    starts = range(0, len(files), size)
    for start in track(starts, "pictures", disable=not sys.stderr.isatty()):
        paths, images = [], []
        for path in files[start : start + size]:
            try:
                images.append(torch.from_numpy(prepare(read_image(path))).permute(2, 0, 1))
                paths.append(path)
            except UsageError as error:
                bad.append(str(error))
        if paths:
            yield paths, images


def free_name(stem: str, taken: set[str]) -> str:
    """Return ``stem``, with a number where another folder's picture has taken it, and take it.

    Example:
        >>> taken = set()
        >>> free_name("a", taken), free_name("a", taken)
        ('a', 'a-2')
    """
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    taken.add(name)
    return name
