"""Draws of the test pictures: the same for all cells, from matches made once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visattn.compare.draws import draw_pictures
from visattn.compare.pictures import label_of, object_mask
from visattn.compare.plan import Plan, make_plan
from visattn.data.clutter import ClutterData
from visattn.tasks.average_precision import Found
from visattn.tasks.matches import match, save_matches

CONFIG = Path(__file__).parents[2] / "configs/experiment/clutter_detection.yaml"
BOX = np.array([[10.0, 10.0, 50.0, 50.0]])


def pictures(right: float, count: int = 60) -> dict[int, Found]:
    """Return pictures with one object, found in a share of them."""
    none, zero = np.zeros((0, 4)), np.zeros(1, int)
    crowd, area = np.zeros(1, bool), np.full(1, 1600.0)
    return {
        i: Found(BOX, np.full(1, 0.9), zero, BOX, zero, crowd, area)
        if i < right * count
        else Found(none, np.zeros(0), np.zeros(0, int), BOX, zero, crowd, area)
        for i in range(count)
    }


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two arms and two seeds, the second seed of cbam not there."""
    made = make_plan(CONFIG, "se,cbam", "0-1", tmp_path / "cmp", [])
    for cell in made.cells:
        cell.folder.mkdir(parents=True)
        if (cell.arm.label, cell.seed) != ("cbam", 1):
            (cell.folder / "result.json").write_text("{}")
            save_matches(match(pictures(0.8 if cell.arm.label == "se" else 0.5), 1), cell.folder / "matches.npz")
    return made


def test_an_interval_a_block_over_shared_seeds(plan: Plan) -> None:
    page = draw_pictures(plan)
    assert page == json.loads((plan.out / "pictures.json").read_text())
    assert page is not None
    assert page["pictures"] == 60
    assert {label: arm["seeds"] for label, arm in page["arms"].items()} == {"se": [0, 1], "cbam": [0]}
    # the same pictures in every cell of a draw: equal arms differ by nothing at all
    assert (page["arms"]["cbam"]["low"], page["arms"]["cbam"]["high"]) == (0, 0)
    # 18 of 60 pictures are right in one arm alone: a binomial share of 0.3, by the normal law within a point
    half = 1.96 * np.sqrt(0.3 * 0.7 / 60)
    assert page["arms"]["se"]["low"] == pytest.approx(0.3 - half, abs=0.03)
    assert page["arms"]["se"]["high"] == pytest.approx(0.3 + half, abs=0.03)


def test_no_matches_no_draws(tmp_path: Path) -> None:
    plan = make_plan(CONFIG, "se", "0", tmp_path / "cmp", [])
    assert draw_pictures(plan) is None
    assert not (plan.out / "pictures.json").exists()


def test_masks_and_labels_of_boxed_pictures() -> None:
    dataset = ClutterData("detection", train=1, val=1, test=20, transforms=[]).dataset("test")
    for i in range(20):
        mask = object_mask(dataset, i)
        assert mask is not None
        outline = dataset.masks(i).any(0) if len(dataset.boxes(i)) else np.zeros_like(mask)
        assert not (outline & ~mask).any(), "the boxes hold their digits"
        assert mask.sum() <= sum((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in dataset.boxes(i))
        text = label_of(dataset, i, [f"digit{d}" for d in range(10)])
        assert (text == "no object") == (len(dataset.boxes(i)) == 0)
        assert sum(int(part.split()[0]) for part in text.split(", ") if part != "no object") == len(dataset.boxes(i))
