"""``visattn maps``: where a network looks, for a folder of pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from visattn.cli.parser import Parser
from visattn.cli.predict import batches
from visattn.data.images import find_images
from visattn.maps.capture import capture, map_keys
from visattn.maps.choice import class_map_layer, shown_maps
from visattn.maps.draw import draw
from visattn.maps.gradcam import grad_cam
from visattn.maps.render import overlay, plain, save_jpeg, sheet
from visattn.tasks.restore import Restored, restore

BATCH = 16


def run(args: Sequence[str]) -> int:
    """Write a sheet a picture: the picture, its Grad-CAM, and every block's map."""
    parser = Parser("maps", "draw Grad-CAM and the blocks' own maps over each picture of a folder")
    parser.add_argument("pictures", nargs="+", help="a folder, or picture files")
    parser.add_argument("--checkpoint", required=True, help="a run folder or a .ckpt file")
    parser.add_argument("--out", type=Path, default=Path("maps"), help="the folder to write to")
    options = parser.parse_args(args)
    restored = restore(options.checkpoint)
    files = find_images(options.pictures[0] if len(options.pictures) == 1 else options.pictures)
    bad: list[str] = []
    written: set[str] = set()
    for paths, images in batches(files, restored, BATCH, bad):
        for path, picture in zip(paths, _sheets(restored, images), strict=True):
            name, count = path.stem, 1
            while name in written:
                count += 1
                name = f"{path.stem}-{count}"
            written.add(name)
            save_jpeg(picture, options.out / f"{name}.jpg")
    for line in bad:
        print(f"visattn: left out: {line}", file=sys.stderr)
    print(f"{len(written)} sheets in {options.out}")
    return 1 if bad else 0


def _sheets(restored: Restored, images: Tensor) -> list[Image.Image]:
    task = restored.task
    x = task.normalise(images)
    with torch.no_grad():
        sure, guess = task.network(x).softmax(1).max(1)
    cam = grad_cam(task.network, class_map_layer(task.network, restored.image_size), x)
    cam = cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-9)
    columns = [("picture", [plain(image.permute(1, 2, 0)) for image in images])]
    columns.append(
        ("Grad-CAM", [overlay(i.permute(1, 2, 0), m, low=0, high=1) for i, m in zip(images, cam, strict=True)])
    )
    if map_keys(task.network):
        with capture(task.network, limit=len(images)) as maps, torch.no_grad():
            task.network(x)
        columns += draw(maps, images, keys=shown_maps(maps)).items()
    labels = [name for name, _ in columns]
    return [
        sheet(
            [[drawn[n] for _, drawn in columns]],
            row_labels=[f"{task.class_names[int(guess[n])]} {100 * float(sure[n]):.0f} %"],
            column_labels=labels,
        )
        for n in range(len(images))
    ]
