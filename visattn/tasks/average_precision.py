"""Average precision as COCO defines it, from what was found in each picture, wherever it was found."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values: TypeAlias = NDArray[np.float64]

MOST = 100  # detections of a class in a picture that count, as COCO has it
SIZES = ("all", "small", "medium", "large")  # of objects: below 32^2 and 96^2 pixels, and above
COUNTS = (1, 10, MOST)
FASTER = "faster_coco_eval"  # the same numbers in a third of the time; the extra `fast`


class Found(NamedTuple):
    """One picture: what the detector found and what is there; boxes are xyxy in pixels."""

    boxes: Values  # (m, 4)
    scores: Values  # (m,)
    labels: NDArray[np.int64]  # (m,)
    true_boxes: Values  # (n, 4)
    true_labels: NDArray[np.int64]  # (n,)
    crowd: NDArray[np.bool_]  # (n,): neither found nor missed, as COCO's iscrowd and VOC's difficult are
    areas: Values  # (n,), the pixels by which an object is small, medium or large


class BoxScores(NamedTuple):
    """The scores of a set of pictures, fractions; what has no object to be found is left out."""

    metrics: dict[str, float]  # AP, AP50, AP75, AP_small, ..., AR1, AR10, AR100, AR_small, ...
    per_class: dict[str, float]  # AP
    per_class_50: dict[str, float]  # AP at an overlap of 0.5
    curves: dict[str, Values]  # class to precision (101,) at recalls 0, 0.01 to 1, at an overlap of 0.5


def found(prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Found:
    """Return a picture's detections and truths as arrays.

    Args:
        prediction: ``boxes`` (m, 4), ``scores`` (m,), ``labels`` (m,).
        target: ``boxes`` (n, 4), ``labels`` (n,); ``iscrowd`` (n,) and ``area`` (n,) where they are known.
    """
    true_boxes = _array(target["boxes"], np.float64).reshape(-1, 4)
    sides = true_boxes[:, 2:] - true_boxes[:, :2]
    crowd = target.get("iscrowd")
    area = target.get("area")
    return Found(
        _array(prediction["boxes"], np.float64).reshape(-1, 4),
        _array(prediction["scores"], np.float64),
        _array(prediction["labels"], np.int64),
        true_boxes,
        _array(target["labels"], np.int64),
        np.zeros(len(true_boxes), bool) if crowd is None else _array(crowd, np.bool_),
        sides.prod(1) if area is None else _array(area, np.float64),
    )


def _array(values: Tensor, kind: type[np.generic]) -> NDArray[Any]:
    return values.detach().cpu().numpy().astype(kind)


def gather(pictures: Mapping[int, Found]) -> dict[int, Found]:
    """Return the pictures of all processes, each once, by their places in the dataset.

    One collective, however many pictures a rank holds; torchmetrics' MeanAveragePrecision makes one
    a picture and aborts when ranks hold different numbers (Lightning-AI/torchmetrics#3199).
    """
    ranks: list[Mapping[int, Found]] = [pictures]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        ranks = [{}] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, dict(pictures))
    return dict(sorted({place: picture for rank in ranks for place, picture in rank.items()}.items()))


def evaluate(pictures: Mapping[int, Found], names: Sequence[str], *, faster: bool | None = None) -> BoxScores:
    """Return COCO's scores of ``pictures``.

    A class without an object is left out of every mean.

    Args:
        pictures: by place in the dataset.
        names: the classes, in the order of the labels.
        faster: use faster-coco-eval; by default if it is installed. The scores are equal.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> there = {"boxes": box, "labels": torch.tensor([0])}
        >>> evaluate({0: found({**there, "scores": torch.tensor([0.9])}, there)}, ["dog", "cat"]).per_class
        {'dog': 1.0}
    """
    result = coco_eval(pictures, len(names), faster=find_spec(FASTER) is not None if faster is None else faster)
    # overlaps (10), recalls (101), classes, sizes (4), counts (3); -1 where there is nothing to find
    precision = np.where(result.eval["precision"] < 0, np.nan, result.eval["precision"])
    recall = np.where(result.eval["recall"] < 0, np.nan, result.eval["recall"])
    every = precision[..., 0, -1]
    metrics = {"AP": _mean(every), "AP50": _mean(every[0]), "AP75": _mean(every[5])}
    metrics |= {f"AP_{size}": _mean(precision[..., i, -1]) for i, size in enumerate(SIZES) if i}
    metrics |= {f"AR{count}": _mean(recall[..., 0, i]) for i, count in enumerate(COUNTS)}
    metrics |= {f"AR_{size}": _mean(recall[..., i, -1]) for i, size in enumerate(SIZES) if i}
    classes = {name: k for k, name in enumerate(names) if np.isfinite(every[..., k]).any()}
    return BoxScores(
        {name: value for name, value in metrics.items() if np.isfinite(value)},
        {name: _mean(every[..., k]) for name, k in classes.items()},
        {name: _mean(every[0, :, k]) for name, k in classes.items()},
        {name: every[0, :, k] for name, k in classes.items()},
    )


def _mean(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def coco_eval(
    pictures: Mapping[int, Found], classes: int, *, faster: bool = False, sizes: int = len(SIZES), counts: int = 3
) -> Any:
    """Return a COCOeval that has matched and accumulated ``pictures``; classes are ``1`` to ``classes`` in it.

    Args:
        pictures: by place in the dataset.
        classes: how many there are.
        faster: use faster-coco-eval, whose single matches cannot be read.
        sizes: how many of ``SIZES`` to look at.
        counts: how many of ``COUNTS`` to look at, the last ones.
    """
    if faster:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where it stands
        truths, guesses = COCO(), COCO()
        truths.dataset = _document(pictures, classes, [_truths(picture) for picture in pictures.values()])
        guesses.dataset = _document(pictures, classes, [_guesses(picture) for picture in pictures.values()])
        for one in (truths, guesses):
            one.createIndex()
        result = COCOeval(truths, guesses, "bbox")
        result.params.imgIds = list(pictures)
        result.params.areaRng = result.params.areaRng[:sizes]
        result.params.areaRngLbl = result.params.areaRngLbl[:sizes]
        result.params.maxDets = list(COUNTS[-counts:])
        result.evaluate()
        result.accumulate()
    return result


def _truths(picture: Found) -> list[dict[str, Any]]:
    columns = (picture.true_boxes, picture.true_labels, picture.areas, picture.crowd)
    return [
        {"bbox": _xywh(box), "category_id": int(label) + 1, "area": float(area), "iscrowd": int(crowd)}
        for box, label, area, crowd in zip(*columns, strict=True)
    ]


def _guesses(picture: Found) -> list[dict[str, Any]]:
    return [
        {"bbox": (box := _xywh(corners)), "category_id": int(label) + 1, "score": float(score)}
        | {"area": box[2] * box[3], "iscrowd": 0}
        for corners, label, score in zip(picture.boxes, picture.labels, picture.scores, strict=True)
    ]


def _xywh(box: Values) -> list[float]:
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def _document(pictures: Mapping[int, Found], classes: int, rows: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what a COCO file would hold; annotations count from 1, since a match to number 0 reads as none."""
    annotations = [{"image_id": place, **row} for place, found_ in zip(pictures, rows, strict=True) for row in found_]
    return {
        "images": [{"id": place} for place in pictures],
        "categories": [{"id": k + 1} for k in range(classes)],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }
