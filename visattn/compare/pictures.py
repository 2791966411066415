"""Where each arm looks: Grad-CAM and the blocks' own maps, on the same test pictures, drawn and scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from visattn.compare.plan import Cell, Plan
from visattn.maps import score
from visattn.maps.boxes import draw_boxes
from visattn.maps.choice import shown_maps
from visattn.maps.draw import draw, planes_of
from visattn.maps.render import overlay, plain, save_jpeg
from visattn.tasks.restore import restore, restore_data
from visattn.tasks.tables import write_json
from visattn.tasks.task import Seen

GRADCAM = "Grad-CAM"
MEASURES = {"auc": score.rank_auc, "energy": score.energy_in_object, "pointing": score.pointing_game}
PICTURES = 8
SCORED = 128  # pictures that the scores are taken over


def draw_arms(plan: Plan) -> dict[str, Any]:
    """Draw and score the maps of every arm's first finished seed and write ``maps.json``."""
    done = {cell.arm.label: cell for cell in reversed(plan.cells) if cell.state == "finished"}
    if not done:
        return {}
    first = next(iter(done.values()))
    data: Any = restore_data(first.folder)
    dataset, sorts = data.dataset("test"), restore(first.folder).task.sorts(data.dataset("test"))
    chosen = pick(sorts, PICTURES)
    masked = object_mask(dataset, 0) is not None
    others = [i for i in pick(sorts, min(SCORED, len(dataset))) if i not in chosen] if masked else []
    folder = plan.out / "maps"
    folder.mkdir(exist_ok=True)
    pictures = []
    for i in chosen:
        save_jpeg(plain(dataset[i][0]), folder / f"{i}-input.jpg")
        pictures.append({"id": i, "label": label_of(dataset, i, data.class_names), "file": f"maps/{i}-input.jpg"})
    rows = [
        row for arm in plan.arms if arm.label in done for row in _rows(done[arm.label], dataset, chosen, others, folder)
    ]
    page = {"pictures": pictures, "rows": rows, "scored": len(chosen) + len(others) if masked else 0}
    write_json(plan.out / "maps.json", page)
    return page


def object_mask(dataset: Any, index: int) -> NDArray[np.bool_] | None:
    """Return where the objects of a picture are, ``(H, W)``: their outline, or their boxes; None if nobody knows."""
    if hasattr(dataset, "mask"):
        return np.asarray(dataset.mask(index))
    if not hasattr(dataset, "labels_of"):
        return None
    mask = np.zeros(dataset.picture(index).shape[:2], np.bool_)
    for left, top, right, bottom in dataset.boxes(index).round().astype(int).tolist():
        mask[max(top, 0) : bottom, max(left, 0) : right] = True
    return mask


def label_of(dataset: Any, index: int, names: Sequence[str]) -> str:
    """Return what is in a picture: its class, or how many objects of which."""
    if not hasattr(dataset, "labels_of"):
        return str(names[int(dataset.labels[index])])
    counts = Counter(dataset.labels_of(index).tolist())
    return ", ".join(f"{count} {names[label]}" for label, count in sorted(counts.items())) or "no object"


def pick(labels: NDArray[Any], count: int) -> list[int]:
    """Return ``count`` places, class by class in turn, the same for the same labels.

    Example:
        >>> pick(np.array([0, 0, 1, 1, 2]), 4)
        [0, 2, 4, 1]
    """
    queues = [list(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    return [int(i) for _, i in zip(range(count), turns, strict=False)]


def _rows(cell: Cell, dataset: Any, chosen: list[int], others: list[int], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what is drawn of one arm: Grad-CAM, what was found, each map; scores are over all pictures."""
    task, arm = restore(cell.folder).task, cell.arm.label
    images = [_image(dataset, i) for i in chosen]
    arrays = [image.movedim(0, -1).numpy() for image in images]
    seen, cams = task.see(images), task.cam(images)
    keys = shown_maps(seen.maps) if seen.maps is not None else []
    scores = _Scores(dataset)
    scores.add(chosen, GRADCAM, cams)
    scores.add_maps(chosen, seen, keys, images)
    for start in range(0, len(others), task.batch):
        places = others[start : start + task.batch]
        more = [_image(dataset, i) for i in places]
        scores.add(places, GRADCAM, task.cam(more))
        scores.add_maps(places, task.see(more) if keys else seen, keys, more)
    drawn = [overlay(array, plane, low=0, high=1) for array, plane in zip(arrays, cams, strict=True)]
    yield _row(arm, "gradcam", GRADCAM, _saved(drawn, chosen, f"{arm}-cam", folder), seen.names, scores.mean(GRADCAM))
    if any(seen.boxes):
        found = [draw_boxes(*one) for one in zip(arrays, seen.boxes, strict=True)]
        yield _row(arm, "boxes", "Found", _saved(found, chosen, f"{arm}-boxes", folder), [], {})
    if seen.maps is None:
        return
    for n, (key, pictures) in enumerate(draw(seen.maps, images, keys=keys, frames=seen.frames).items()):
        yield _row(arm, "map", key, _saved(pictures, chosen, f"{arm}-{n}", folder), seen.names, scores.mean(key))


def _image(dataset: Any, index: int) -> Tensor:
    return torch.from_numpy(np.array(dataset[index][0])).permute(2, 0, 1)


class _Scores:
    """How well planes point at the objects, picture by picture."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._values: dict[str, list[dict[str, float]]] = {}

    def add(self, places: Sequence[int], key: str, planes: Sequence[Tensor]) -> None:
        """Score one plane a picture."""
        for place, plane in zip(places, planes, strict=True):
            mask = object_mask(self._dataset, place)
            if mask is not None:
                pair = plane[None], torch.from_numpy(mask)[None]
                values = {name: float(measure(*pair)) for name, measure in MEASURES.items()}
                self._values.setdefault(key, []).append(values)

    def add_maps(self, places: Sequence[int], seen: Seen, keys: Sequence[str], images: Sequence[Tensor]) -> None:
        """Score the maps that have positions."""
        for key in keys:
            assert seen.maps is not None
            if seen.maps.info(key).kind != "channel":
                sizes = [(image.shape[1], image.shape[2]) for image in images]
                self.add(places, key, planes_of(seen.maps, key, sizes, seen.frames))

    def mean(self, key: str) -> dict[str, float]:
        """Return the means over the pictures where a score is defined."""
        rows = self._values.get(key, [])
        known = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in MEASURES}
        return {name: math.fsum(values) / len(values) for name, values in known.items() if values}


def _row(
    arm: str, kind: str, key: str, files: list[str], predicted: list[str], scores: dict[str, float]
) -> dict[str, Any]:
    return {"arm": arm, "kind": kind, "key": key, "files": files, "predicted": predicted, "score": scores}


def _saved(pictures: list[Image.Image], chosen: list[int], stem: str, folder: Path) -> list[str]:
    return [
        f"maps/{save_jpeg(picture, folder / f'{i}-{stem}.jpg').name}"
        for i, picture in zip(chosen, pictures, strict=True)
    ]
