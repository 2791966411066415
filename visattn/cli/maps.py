"""``visattn maps``: where a network looks, for a folder of pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from visattn.cli.parser import Parser
from visattn.cli.pictures import batches, free_name
from visattn.data.images import find_images
from visattn.maps.boxes import draw_boxes
from visattn.maps.choice import shown_maps
from visattn.maps.draw import draw
from visattn.maps.render import overlay, save_jpeg, sheet
from visattn.tasks.restore import Restored, restore


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
    for paths, images in batches(files, restored, restored.task.batch, bad):
        for path, picture in zip(paths, _sheets(restored, images), strict=True):
            save_jpeg(picture, options.out / f"{free_name(path.stem, written)}.jpg")
    for line in bad:
        print(f"visattn: left out: {line}", file=sys.stderr)
    print(f"{len(written)} sheets in {options.out}")
    return 1 if bad else 0


def _sheets(restored: Restored, images: Sequence[Tensor]) -> list[Image.Image]:
    seen, cams = restored.task.see(images), restored.task.cam(images)
    pictures = [image.movedim(0, -1).numpy() for image in images]
    columns = [("picture", [draw_boxes(*one) for one in zip(pictures, seen.boxes, strict=True)])]
    columns.append(("Grad-CAM", [overlay(p, m, low=0, high=1) for p, m in zip(pictures, cams, strict=True)]))
    if seen.maps is not None:
        columns += draw(seen.maps, images, keys=shown_maps(seen.maps), frames=seen.frames).items()
    labels = [name for name, _ in columns]
    return [
        sheet([[drawn[n] for _, drawn in columns]], row_labels=[seen.said[n]], column_labels=labels)
        for n in range(len(images))
    ]
