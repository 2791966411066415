"""Train every block on ClutterData and draw its maps for ``docs/blocks/``: ``python benchmarks/block_pictures.py``.

The cells are those of ``visattn compare run``, so a run that was cut short goes on; about half a minute a block
on one core. ``--blocks se,eca`` draws some, ``--runs FOLDER`` keeps the runs elsewhere than in ``runs/blocks``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from visattn.attention import blocks
from visattn.maps.canvas import PAPER
from visattn.maps.capture import Maps, capture
from visattn.maps.draw import draw
from visattn.maps.render import plain
from visattn.tasks.classification import ClassificationTask
from visattn.tasks.restore import restore, restore_data

OUT = Path(__file__).resolve().parents[1] / "docs" / "blocks" / "pictures"
CONFIG = "experiment/clutter_classification"
SCENE = 18  # of the test set: a digit among distractors on a building
PHOTOGRAPH, HEIGHT, WIDTH = "china.jpg", 192, 288
MOST = 3  # rows of a sheet
SLOWER = {"attention_pool2d": "1.0e-3"}  # at the recipe's rate of 5e-3 it does not learn
COARSEST = 6  # positions a side of the photograph's map below which it shows little
FLAT = 1e-3  # of its largest value: a softmax over maps has a constant mean


def main() -> int:
    """Train what is not trained yet, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", default=",".join(blocks()), help="names, with commas between")
    parser.add_argument("--runs", type=Path, default=Path("runs/blocks"), help="the comparison's folder")
    options = parser.parse_args()
    names = options.blocks.split(",")
    # a comparison's plan is fixed, so each block has a folder of its own and new ones can follow
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names:
        run = options.runs / name
        command = ["fit", "--config", CONFIG, f"--model.attention={name}", f"--out={run}", "--seed_everything=0"]
        command += [f"--model.optimizer.lr={SLOWER[name]}"] if name in SLOWER else []
        if not (run / "result.json").is_file():
            subprocess.run([sys.executable, "-m", "visattn", *command, "--test_after=true"], check=True)
        sheet(run).save(OUT / f"{name}.jpg", quality=85)
        print(f"drew {name}", flush=True)
    return 0


def sheet(run: Path) -> Image.Image:
    """Return the maps of the block in ``run``: a row a map, a column a picture."""
    task = restore(run).task
    pictures = [scene(run), photograph()]
    rows: list[list[Image.Image]] = [[plain(image[0].movedim(0, -1)) for image in pictures]]
    seen = [recorded(task, image) for image in pictures]
    for key in chosen(seen[-1]):  # the photograph's maps are the finest
        drawn = [draw(maps, image, keys=[key], captions=[key]) for maps, image in zip(seen, pictures, strict=True)]
        rows.append([found[key][0] for found in drawn])
    return joined(rows)


def scene(run: Path) -> Tensor:
    """Return a test picture of ClutterData as a batch of one, uint8."""
    data = restore_data(run)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    return batch.images[SCENE : SCENE + 1]


def photograph() -> Tensor:
    """Return scikit-learn's photograph as a batch of one, uint8."""
    image = Image.fromarray(load_sample_image(PHOTOGRAPH)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0)[None]


def recorded(task: ClassificationTask, images: Tensor) -> Maps:
    """Return the maps of ``images``."""
    with torch.no_grad(), capture(task.network) as maps:
        task.network(task.normalise(images))
    return maps


def chosen(maps: Maps) -> list[str]:
    """Return of each tap the deepest map with enough positions that is not flat, at most ``MOST``."""
    best: dict[str, str] = {}
    for key in maps:
        info = maps.info(key)
        if info.kind == "channel":
            best[info.tap] = key
            continue
        plane = maps.plane(key)
        sides = [side for side in plane.shape[1:] if side > 1]  # a map along one axis is a strip
        if sides and min(sides) >= COARSEST and plane.max() - plane.min() > FLAT * plane.abs().max():
            best[info.tap] = key
    return list(best.values())[:MOST]


def joined(rows: list[list[Image.Image]]) -> Image.Image:
    """Return the pictures in rows and columns on one sheet of paper."""
    widths = [max(row[i].width for row in rows) for i in range(len(rows[0]))]
    heights = [max(image.height for image in row) for row in rows]
    canvas = Image.new("RGB", (sum(widths), sum(heights)), tuple(PAPER))
    for top, row in zip(np.cumsum([0, *heights[:-1]]).tolist(), rows, strict=True):
        for left, image in zip(np.cumsum([0, *widths[:-1]]).tolist(), row, strict=True):
            canvas.paste(image, (left, top))
    return canvas


if __name__ == "__main__":
    sys.exit(main())
