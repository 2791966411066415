"""Average precision: hand-made cases, a formula of its own, both backends, pictures spread over processes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from visattn.tasks.average_precision import FASTER, Found, evaluate, found, gather
from visattn.tasks.matches import average_precision, load_matches, match, save_matches
from visattn.types import UsageError

BOX, FAR = (10.0, 10.0, 50.0, 50.0), (100.0, 100.0, 150.0, 160.0)
IN = (110.0, 110.0, 120.0, 125.0)  # inside FAR
NAMES = ["dog", "cat", "owl"]
Row = tuple[Sequence[float], int, float]


def picture(
    guesses: Sequence[Row], truths: Sequence[tuple[Sequence[float], int]], crowd: Sequence[bool] | None = None
) -> Found:
    """Return a picture with the guesses (box, label, score) and the truths (box, label)."""
    prediction = {
        "boxes": torch.tensor([list(box) for box, _, _ in guesses]).reshape(-1, 4),
        "labels": torch.tensor([label for _, label, _ in guesses], dtype=torch.int64),
        "scores": torch.tensor([score for _, _, score in guesses]),
    }
    target = {
        "boxes": torch.tensor([list(box) for box, _ in truths]).reshape(-1, 4),
        "labels": torch.tensor([label for _, label in truths], dtype=torch.int64),
    }
    return found(prediction, target if crowd is None else {**target, "iscrowd": torch.tensor(crowd)})


CASES = [
    # what is there, what was found -> AP50, AP
    ("perfect", [picture([(BOX, 0, 0.9)], [(BOX, 0)])], 1.0, 1.0),
    ("nothing found", [picture([], [(BOX, 0)])], 0.0, 0.0),
    ("wrong class", [picture([(BOX, 1, 0.9)], [(BOX, 0)])], 0.0, 0.0),
    # 40 x 30 of 40 x 40: an overlap of 0.75, right at 0.5 to 0.75, 6 of the 10 thresholds
    ("loose box", [picture([((10, 10, 50, 40), 0, 0.9)], [(BOX, 0)])], 1.0, 0.6),
    # half of the objects, found with precision 1: recalls 0 to 0.5 are 51 of 101
    ("half of them", [picture([(BOX, 0, 0.9)], [(BOX, 0), (FAR, 0)])], 51 / 101, 51 / 101),
    ("a surer mistake", [picture([(BOX, 0, 0.5), (FAR, 0, 0.9)], [(BOX, 0)])], 0.5, 0.5),
    ("an unsure mistake", [picture([(BOX, 0, 0.9), (FAR, 0, 0.5)], [(BOX, 0)])], 1.0, 1.0),
    ("found twice", [picture([(BOX, 0, 0.9), (BOX, 0, 0.8), (FAR, 0, 0.7)], [(BOX, 0), (FAR, 0)])], None, None),
    # a small detection inside a large crowd, which nobody has to find as a whole
    ("a crowd is neither", [picture([(IN, 0, 0.9), (BOX, 0, 0.8)], [(BOX, 0), (FAR, 0)], [False, True])], 1.0, 1.0),
    ("a crowd may be missed", [picture([(BOX, 0, 0.8)], [(BOX, 0), (FAR, 0)], [False, True])], 1.0, 1.0),
    # the second picture's object is of a class that nothing was found of: the mean of 1 and 0
    ("two classes", [picture([(BOX, 0, 0.9)], [(BOX, 0)]), picture([], [(FAR, 2)])], 0.5, 0.5),
    # a class with guesses alone is in no mean
    ("a class without objects", [picture([(BOX, 0, 0.9), (FAR, 1, 0.9)], [(BOX, 0)])], 1.0, 1.0),
    ("an empty picture", [picture([(BOX, 0, 0.9)], [(BOX, 0)]), picture([], [])], 1.0, 1.0),
    ("a mistake in an empty picture", [picture([(BOX, 0, 0.8)], [(BOX, 0)]), picture([(BOX, 0, 0.9)], [])], 0.5, 0.5),
]


@pytest.mark.parametrize(("pictures", "ap50", "ap"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_hand_made_cases(pictures: list[Found], ap50: float | None, ap: float | None) -> None:
    scores = evaluate(dict(enumerate(pictures)), NAMES, faster=False).metrics
    if ap50 is None or ap is None:  # right, wrong, right: precision 1 to recall 0.5, then 2/3
        ap50 = ap = (51 + 50 * 2 / 3) / 101
    assert scores["AP50"] == pytest.approx(ap50, abs=1e-9)
    assert scores["AP"] == pytest.approx(ap, abs=1e-9)


def test_what_has_no_object_has_no_score() -> None:
    scores = evaluate({0: picture([(BOX, 0, 0.9)], [(BOX, 0)]), 1: picture([(BOX, 1, 0.9)], [])}, NAMES)
    assert scores.per_class == {"dog": pytest.approx(1.0)}
    assert set(scores.curves) == {"dog"}
    assert {"AP_medium", "AR_medium"} <= scores.metrics.keys()
    assert not {"AP_small", "AP_large"} & scores.metrics.keys()
    assert evaluate({0: picture([(BOX, 0, 0.9)], [])}, NAMES).metrics == {}
    assert evaluate({}, NAMES).metrics == {}


def test_the_number_of_detections_counts() -> None:
    boxes = [(100.0 * i, 0.0, 100.0 * i + 50, 50.0) for i in range(20)]
    scores = evaluate({0: picture([(b, 0, 0.9) for b in boxes], [(b, 0) for b in boxes])}, NAMES).metrics
    assert [scores[name] for name in ("AR1", "AR10", "AR100")] == pytest.approx([0.05, 0.5, 1.0])


def scenes(seed: int, count: int = 12, *, ties: bool = True) -> dict[int, Found]:
    """Return random pictures whose detections are objects moved a little, with mistakes, crowds, all sizes."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for place in range(count):
        corners = rng.uniform(0, 200, (rng.integers(0, 9), 2))
        truths = np.concatenate([corners, corners + rng.uniform(8, 130, corners.shape)], 1)
        labels = rng.integers(0, 2, len(truths))
        moved = np.repeat(truths, 2, 0) + rng.normal(0, 4, (2 * len(truths), 4)) * rng.integers(0, 2, (1, 4))
        wrong = rng.uniform(0, 100, (rng.integers(0, 4), 2))
        boxes = np.concatenate([moved, np.concatenate([wrong, wrong + 60], 1)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        kinds = np.concatenate([np.repeat(labels, 2), rng.integers(0, 3, len(wrong))])
        areas = (truths[:, 2:] - truths[:, :2]).prod(1)
        scores = rng.integers(1, 20, len(boxes)) / 20 if ties else rng.random(len(boxes))
        drawn[place] = Found(boxes, scores, kinds, truths, labels, rng.random(len(truths)) < 0.15, areas)
    return drawn


def plain_formula(pictures: dict[int, Found], label: int, overlap: float) -> float:
    """Return a class's AP from loops and the definition: greedy matching, then precision over recall."""
    rows, total = [], 0
    for one in pictures.values():
        wanted = np.flatnonzero(one.true_labels == label)
        wanted = wanted[np.argsort(one.crowd[wanted], kind="stable")]
        total += int((~one.crowd[wanted]).sum())
        guesses = [i for i in np.argsort(-one.scores, kind="stable") if one.labels[i] == label]
        free = dict.fromkeys(wanted.tolist(), True)
        overlaps = box_iou(torch.tensor(one.boxes), torch.tensor(one.true_boxes)).numpy()
        for i in guesses:
            width = np.minimum(one.boxes[i, 2:], one.true_boxes[:, 2:]) - np.maximum(
                one.boxes[i, :2], one.true_boxes[:, :2]
            )
            share = width.clip(0).prod(1) / (one.boxes[i, 2:] - one.boxes[i, :2]).prod()
            best = (
                max((overlaps[i, t], t) for t in [*[t for t in free if free[t] and not one.crowd[t]]])
                if any(free[t] and not one.crowd[t] for t in free)
                else (0.0, -1)
            )
            if best[0] >= overlap:
                free[int(best[1])] = False
                rows.append((one.scores[i], True))
            elif not any(one.crowd[t] and share[t] >= overlap for t in free):
                rows.append((one.scores[i], False))
    if not total:
        return math.nan
    rows = [rows[i] for i in np.argsort([-score for score, _ in rows], kind="stable")]
    hits = np.cumsum([hit for _, hit in rows])
    precision = hits / np.arange(1, len(rows) + 1)
    return float(
        np.mean([max(precision[hits / total >= r], default=0.0) for r in np.linspace(0, 1, 101)]) if rows else 0.0
    )


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_plain_formula(seed: int) -> None:
    pictures = scenes(seed)
    scores = evaluate(pictures, NAMES, faster=False)
    grid = {k: [plain_formula(pictures, k, o) for o in np.linspace(0.5, 0.95, 10)] for k in range(3)}
    assert scores.per_class == {NAMES[k]: pytest.approx(np.mean(grid[k])) for k in (0, 1)}
    assert scores.per_class_50 == {NAMES[k]: pytest.approx(grid[k][0]) for k in (0, 1)}
    assert scores.metrics["AP"] == pytest.approx(np.mean([grid[0], grid[1]]))
    assert np.mean(scores.curves["dog"]) == pytest.approx(scores.per_class_50["dog"])


@pytest.mark.parametrize("seed", range(4))
def test_the_faster_backend_gives_the_same_numbers(seed: int) -> None:
    pytest.importorskip(FASTER, reason="the extra `fast` is not installed")
    slow, fast = (evaluate(scenes(seed, 30), NAMES, faster=faster) for faster in (False, True))
    assert fast.metrics == pytest.approx(slow.metrics, abs=1e-9)
    assert fast.per_class == pytest.approx(slow.per_class, abs=1e-9)
    for name, curve in slow.curves.items():
        np.testing.assert_allclose(fast.curves[name], curve, atol=1e-9)
    assert evaluate({}, NAMES, faster=True).metrics == {}


@pytest.mark.parametrize("seed", range(3))
def test_weighted_matches_are_repeated_pictures(seed: int, tmp_path: Path) -> None:
    pictures = scenes(seed, ties=False)  # equal scores of one picture's copies would be sorted another way
    matches = match(pictures, 3)
    assert average_precision(matches) == pytest.approx(evaluate(pictures, NAMES).metrics["AP"], abs=1e-12)
    counts = np.random.default_rng(seed).multinomial(len(pictures), [1 / len(pictures)] * len(pictures))
    repeated = [picture for place, count in enumerate(counts) for picture in [pictures[place]] * count]
    literal = evaluate(dict(enumerate(repeated)), NAMES, faster=False).metrics["AP"]
    save_matches(matches, tmp_path / "matches.npz")
    assert average_precision(load_matches(tmp_path / "matches.npz"), counts) == pytest.approx(literal, abs=1e-12)


def test_matches_of_nothing(tmp_path: Path) -> None:
    assert math.isnan(average_precision(match({0: picture([], [])}, 2)))
    assert average_precision(match({0: picture([], [(BOX, 1)])}, 2)) == 0
    with pytest.raises(UsageError, match="holds no matches"):
        load_matches(tmp_path / "none.npz")


def _rank(rank: int, file: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    pictures = scenes(0)
    # uneven shards, and picture 5 twice, as Lightning's own sampler would have it
    mine = {place: pictures[place] for place in ([5] if rank else range(len(pictures)))}
    gathered = gather(mine)
    assert list(gathered) == list(pictures)
    assert evaluate(gathered, NAMES).metrics == evaluate(pictures, NAMES).metrics
    empty = gather({} if rank else mine)  # a rank without a single picture
    assert len(empty) == len(pictures)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo over a file")
def test_two_processes_with_uneven_shards(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, args=(str(tmp_path / "meet"),), nprocs=2)
