"""A classifier's predictions: a CSV."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from visattn.cli.pictures import batches
from visattn.tasks.restore import Restored


def write(restored: Restored, files: Sequence[Path], bad: list[str], options: Namespace) -> str:
    """Write a row a picture with the probability of every class."""
    names = restored.task.class_names
    target = options.out or Path("predictions.csv")
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", newline="") as file, torch.inference_mode():
        writer = csv.writer(file)
        writer.writerow(["picture", "predicted", "confidence", *names])
        for paths, images in batches(files, restored, options.batch_size, bad):
            for path, row in zip(paths, restored.task(torch.stack(images)).softmax(1).tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                writer.writerow([path, names[best], f"{row[best]:.6f}", *(f"{p:.6f}" for p in row)])
    part.replace(target)
    return f"{len(files) - len(bad)} pictures named in {target}"
