"""Which detection hit what, kept from one matching pass: the AP of any weighting of the pictures follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visattn.tasks.average_precision import Found, Values, coco_eval
from visattn.types import UsageError

RECALLS = np.linspace(0, 1, 101)


class Matches(NamedTuple):
    """Detections of all pictures, class by class, the surest first; ties in the order of the pictures."""

    pictures: NDArray[np.int64]  # (P,) places in the dataset
    truths: NDArray[np.int64]  # (P, K) objects to be found
    picture: NDArray[np.int64]  # (D,) row of `pictures`
    label: NDArray[np.int64]  # (D,)
    score: Values  # (D,)
    hit: NDArray[np.bool_]  # (D, 10) at overlaps 0.5, 0.55 to 0.95
    ignored: NDArray[np.bool_]  # (D, 10) neither right nor wrong


def match(pictures: Mapping[int, Found], classes: int) -> Matches:
    """Match the detections of ``pictures`` with the objects, once, by pycocotools.

    Example:
        >>> box = np.array([[0.0, 0.0, 10.0, 10.0]])
        >>> one = Found(box, np.ones(1), np.zeros(1, int), box, np.zeros(1, int), np.zeros(1, bool), np.full(1, 100.0))
        >>> match({7: one}, 1).hit.all().item()
        True
    """
    # one size and one count: the rest of a COCO table needs no single matches
    evaluated = coco_eval(pictures, classes, sizes=1, counts=1).evalImgs
    truths = np.zeros((len(pictures), classes), np.int64)
    columns: list[tuple[NDArray[np.int64], NDArray[np.int64], Values, NDArray[np.bool_], NDArray[np.bool_]]] = []
    for place, one in enumerate(evaluated):
        k, p = divmod(place, len(pictures))
        if one is None:  # neither object nor detection
            continue
        truths[p, k] = int((np.asarray(one["gtIgnore"]) == 0).sum())
        count = len(one["dtScores"])
        hit, ignored = (np.asarray(one[key]).reshape(10, count).T.astype(bool) for key in ("dtMatches", "dtIgnore"))
        columns.append((np.full(count, p), np.full(count, k), np.asarray(one["dtScores"], np.float64), hit, ignored))
    if not columns:
        none = np.zeros((0, 10), bool)
        empty = np.zeros(0, np.int64)
        return Matches(np.array(list(pictures), np.int64), truths, empty, empty, np.zeros(0), none, none)
    picture, label, score, hit, ignored = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((-score, label))  # stable, as COCO's own mergesort
    return Matches(
        np.array(list(pictures), np.int64),
        truths,
        *(column[order] for column in (picture, label, score, hit & ~ignored, ignored)),
    )


def average_precision(matches: Matches, weights: Values | None = None) -> float:
    """Return COCO's AP as if picture ``i`` were there ``weights[i]`` times; nan without any object.

    Equal to evaluating the repeated pictures, since a repeated detection adds points to the curve of
    precision over recall only where its envelope is above them.

    Args:
        matches: of one matching pass.
        weights: ``(P,)``, by default one each.
    """
    weight = np.ones(len(matches.pictures)) if weights is None else np.asarray(weights, np.float64)
    totals = weight @ matches.truths  # (K,)
    ends = np.searchsorted(matches.label, np.arange(len(totals) + 1))
    found = [
        _of_class(matches, slice(ends[k], ends[k + 1]), weight, float(total))
        for k, total in enumerate(totals)
        if total > 0
    ]
    return float(np.mean(found)) if found else float("nan")


def _of_class(matches: Matches, rows: slice, weight: Values, total: float) -> float:
    """Return the mean over overlaps of a class's interpolated precision."""
    each = weight[matches.picture[rows], None]  # (D, 1)
    hits = np.cumsum(matches.hit[rows] * each, axis=0).T  # (10, D)
    misses = np.cumsum(~(matches.hit[rows] | matches.ignored[rows]) * each, axis=0).T
    seen = hits + misses
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    places = np.stack([np.searchsorted(row, RECALLS) for row in hits / total])  # (10, 101)
    padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    return float(np.take_along_axis(padded, places, axis=1).mean())


def save_matches(matches: Matches, path: Path) -> None:
    """Write ``matches`` as a compressed ``.npz``, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, **matches._asdict())
    part.replace(path)


def load_matches(path: Path) -> Matches:
    """Read what ``save_matches`` wrote.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Matches(**{name: file[name] for name in Matches._fields})
    except Exception as error:
        raise UsageError(f"{path} holds no matches of detections ({type(error).__name__})") from error
