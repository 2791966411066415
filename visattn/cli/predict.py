"""``visattn predict``: name the pictures of a folder."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from visattn.cli.parser import Parser
from visattn.data.images import find_images, read_image
from visattn.data.transforms import eval_transform
from visattn.tasks.restore import Restored, restore
from visattn.types import UsageError


def run(args: Sequence[str]) -> int:
    """Write a CSV of predictions."""
    parser = Parser("predict", "name the pictures of a folder; writes a CSV with every class's probability")
    parser.add_argument("pictures", nargs="+", help="a folder, or picture files")
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="the CSV to write")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures at a time")
    options = parser.parse_args(args)
    if options.batch_size < 1:
        raise UsageError(f"--batch_size must be at least 1, got {options.batch_size}")
    restored = restore(options.checkpoint)
    files = find_images(options.pictures[0] if len(options.pictures) == 1 else options.pictures)
    names = restored.task.class_names
    part = options.out.with_name(f".{options.out.name}.part")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    bad: list[str] = []
    with part.open("w", newline="") as file, torch.inference_mode():
        writer = csv.writer(file)
        writer.writerow(["picture", "predicted", "confidence", *names])
        for paths, images in batches(files, restored, options.batch_size, bad):
            for path, row in zip(paths, restored.task(images).softmax(1).tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                writer.writerow([path, names[best], f"{row[best]:.6f}", *(f"{p:.6f}" for p in row)])
    part.replace(options.out)
    for line in bad:
        print(f"visattn: left out: {line}", file=sys.stderr)
    print(f"{len(files) - len(bad)} pictures named in {options.out}")
    return 1 if bad else 0


def batches(
    files: Sequence[Path], restored: Restored, size: int, bad: list[str]
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield paths and uint8 images ``(n, 3, S, S)``; pictures that cannot be read go to ``bad``, with the reason."""
    transform = eval_transform(restored.image_size, restored.data.get("eval_transforms"))
    starts = range(0, len(files), size)
    for start in track(starts, "pictures", disable=not sys.stderr.isatty()):
        paths, images = [], []
        for path in files[start : start + size]:
            try:
                images.append(torch.from_numpy(transform(read_image(path))))
                paths.append(path)
            except UsageError as error:
                bad.append(str(error))
        if paths:
            yield paths, torch.stack(images).permute(0, 3, 1, 2)
