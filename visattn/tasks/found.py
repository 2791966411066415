"""What was found in a picture, told in words, as boxes to draw, and as COCO's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from visattn.maps.boxes import Marked
from visattn.tasks.average_precision import Found

SURE = 0.4  # score from which a detection is drawn, told, and counts in the confusion matrix
SAME = 0.7  # overlap from which two detections are of one object, of whatever classes: the surer one is drawn


def surest(one: Found, threshold: float = SURE) -> NDArray[np.int64]:
    """Return the places of the detections with at least this score, one an object, the surest first.

    Example:
        >>> box = np.array([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 9.5]])
        >>> none = np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0)
        >>> surest(Found(box, np.array([0.5, 0.8]), np.arange(2), *none)).tolist()
        [1]
    """
    kept = np.flatnonzero(one.scores >= threshold)
    order = nms(torch.from_numpy(one.boxes[kept]), torch.from_numpy(one.scores[kept]), SAME)
    return kept[order.numpy()]


def marked(one: Found, names: Sequence[str], threshold: float = SURE) -> list[Marked]:
    """Return what is drawn of a picture: its objects, and the detections with at least this score."""
    truths = [
        Marked(tuple(box), names[label], None, int(label))
        for box, label, crowd in zip(one.true_boxes.tolist(), one.true_labels, one.crowd, strict=True)
        if not crowd
    ]
    sure = surest(one, threshold)
    columns = (one.boxes[sure].tolist(), one.labels[sure], one.scores[sure])
    return truths + [Marked(tuple(b), names[k], float(s), int(k)) for b, k, s in zip(*columns, strict=True)]


def said_of(one: Found, *, counted: bool) -> str:
    """Return how many objects were found, of how many where that is known.

    Example:
        >>> box = np.array([[0.0, 0.0, 9.0, 9.0]])
        >>> one = Found(box, np.ones(1), np.zeros(1, int), box, np.zeros(1, int), np.zeros(1, bool), np.ones(1))
        >>> said_of(one, counted=True)
        'objects=1  found=1'
    """
    sure = len(surest(one))
    return f"objects={int((~one.crowd).sum())}  found={sure}" if counted else f"{sure} found"


def result_rows(one: Found, image_id: int | str, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return a picture's detections as COCO's results, the surest first: xywh, the data's own ids.

    Example:
        >>> box = np.array([[1.0, 2.0, 4.0, 6.0]])
        >>> one = Found(box, np.array([0.5]), np.zeros(1, int), box, np.zeros(1, int), np.zeros(1, bool), np.ones(1))
        >>> result_rows(one, 7, [3])
        [{'image_id': 7, 'category_id': 3, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    corners = np.concatenate([one.boxes[:, :2], one.boxes[:, 2:] - one.boxes[:, :2]], axis=1).round(2)
    return [
        {
            "image_id": image_id,
            "category_id": int(ids[int(one.labels[i])]),
            "bbox": corners[i].tolist(),
            "score": round(float(one.scores[i]), 5),
        }
        for i in np.argsort(-one.scores, kind="stable")
    ]
