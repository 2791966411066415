"""Where each arm looks: Grad-CAM and the blocks' own maps, on the same test pictures, drawn and scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visattn.compare.plan import Cell, Plan
from visattn.maps import score
from visattn.maps.capture import capture, map_keys
from visattn.maps.choice import class_map_layer, shown_maps
from visattn.maps.draw import draw
from visattn.maps.gradcam import grad_cam
from visattn.maps.render import overlay, plain, save_jpeg
from visattn.tasks.restore import restore, restore_data
from visattn.tasks.tables import write_json

PICTURES = 8
SCORED = 128  # pictures that the scores are taken over


def draw_arms(plan: Plan) -> dict[str, Any]:
    """Draw and score the maps of every arm's first finished seed and write ``maps.json``."""
    done = {cell.arm.label: cell for cell in reversed(plan.cells) if cell.state == "finished"}
    if not done:
        return {}
    data: Any = restore_data(next(iter(done.values())).folder)
    dataset = data.dataset("test")
    chosen = pick(np.asarray(dataset.labels), PICTURES)
    others = [i for i in pick(np.asarray(dataset.labels), min(SCORED, len(dataset))) if i not in chosen]
    indices = [*chosen, *others] if hasattr(dataset, "mask") else chosen
    images = torch.stack([torch.from_numpy(np.array(dataset[i][0])).permute(2, 0, 1) for i in indices])
    masks = torch.stack([torch.from_numpy(dataset.mask(i)) for i in indices]) if hasattr(dataset, "mask") else None
    folder = plan.out / "maps"
    folder.mkdir(exist_ok=True)
    pictures = []
    for n, i in enumerate(chosen):
        save_jpeg(plain(images[n].permute(1, 2, 0)), folder / f"{i}-input.jpg")
        pictures.append({"id": i, "label": data.class_names[int(dataset.labels[i])], "file": f"maps/{i}-input.jpg"})
    rows = [
        row for arm in plan.arms if arm.label in done for row in _rows(done[arm.label], images, chosen, masks, folder)
    ]
    page = {"pictures": pictures, "rows": rows, "scored": len(indices) if masks is not None else 0}
    write_json(plan.out / "maps.json", page)
    return page


def pick(labels: np.ndarray, count: int) -> list[int]:
    """Return ``count`` places, class by class in turn, the same for the same labels.

    Example:
        >>> pick(np.array([0, 0, 1, 1, 2]), 4)
        [0, 2, 4, 1]
    """
    queues = [list(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    return [int(i) for _, i in zip(range(count), turns, strict=False)]


def _rows(
    cell: Cell, images: Tensor, chosen: list[int], masks: Tensor | None, folder: Path
) -> Iterator[dict[str, Any]]:
    restored = restore(cell.folder)
    task, arm = restored.task, cell.arm.label
    x = task.normalise(images)
    with torch.no_grad():
        guesses = task.network(x).argmax(1).tolist()
    names = [task.class_names[g] for g in guesses[: len(chosen)]]
    cam = grad_cam(task.network, class_map_layer(task.network, restored.image_size), x)
    shown = zip(images[: len(chosen)], cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-9), strict=False)
    drawn = [overlay(image.permute(1, 2, 0), plane, low=0, high=1) for image, plane in shown]
    yield _row(arm, "gradcam", "Grad-CAM", _saved(drawn, chosen, f"{arm}-cam", folder), names, _score(cam, masks))
    if not map_keys(task.network):
        return
    with capture(task.network, limit=len(images)) as maps, torch.no_grad():
        task.network(x)
    with capture(task.network) as few, torch.no_grad():
        task.network(x[: len(chosen)])
    for n, (key, pictures) in enumerate(draw(few, images[: len(chosen)], keys=shown_maps(few)).items()):
        scores = {} if maps.info(key).kind == "channel" else _score(maps.plane(key), masks)
        yield _row(arm, "map", key, _saved(pictures, chosen, f"{arm}-{n}", folder), names, scores)


def _row(
    arm: str, kind: str, key: str, files: list[str], predicted: list[str], scores: dict[str, float]
) -> dict[str, Any]:
    return {"arm": arm, "kind": kind, "key": key, "files": files, "predicted": predicted, "score": scores}


def _saved(pictures: list[Image.Image], chosen: list[int], stem: str, folder: Path) -> list[str]:
    return [
        f"maps/{save_jpeg(picture, folder / f'{i}-{stem}.jpg').name}"
        for i, picture in zip(chosen, pictures, strict=True)
    ]


def _score(planes: Tensor, masks: Tensor | None) -> dict[str, float]:
    if masks is None:
        return {}
    values = {
        "auc": score.rank_auc(planes, masks),
        "energy": score.energy_in_object(planes, masks),
        "pointing": score.pointing_game(planes, masks),
    }
    means = {name: float(value.double().nanmean()) for name, value in values.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
