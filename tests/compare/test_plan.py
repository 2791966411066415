"""The cells of a comparison, and what a folder is refused for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visattn.compare.pictures import pick
from visattn.compare.plan import make_plan, parse_seeds
from visattn.types import UsageError

CONFIG = Path(__file__).parents[2] / "configs/experiment/clutter_classification.yaml"


def test_the_baseline_is_first_and_seeds_are_whole_pairs(tmp_path: Path) -> None:
    plan = make_plan(CONFIG, "cbam,{block: se, reduction: 8}", "0-1", tmp_path / "cmp", [])
    assert [arm.label for arm in plan.arms] == ["none", "cbam", "se(reduction=8)"]
    assert [(cell.seed, cell.arm.label) for cell in plan.cells[:3]] == [(0, arm.label) for arm in plan.arms]
    assert {cell.state for cell in plan.cells} == {"new"}
    assert plan.epochs == 8


def test_a_cell_knows_how_far_it_is(tmp_path: Path) -> None:
    cell = make_plan(CONFIG, "se", "0", tmp_path, []).cells[0]
    (cell.folder / "checkpoints").mkdir(parents=True)
    (cell.folder / "config.yaml").touch()
    assert cell.state == "new"
    (cell.folder / "checkpoints" / "epoch=0000.ckpt").touch()
    assert cell.state == "started"
    (cell.folder / "result.json").touch()
    assert cell.state == "finished"


def test_overrides_change_the_identity(tmp_path: Path) -> None:
    one = make_plan(CONFIG, "se", "0", tmp_path, [])
    two = make_plan(CONFIG, "se", "0", tmp_path, ["--trainer.max_epochs=2"])
    assert one.identity != two.identity
    assert two.epochs == 2


@pytest.mark.parametrize(
    ("attention", "seeds", "overrides", "message"),
    [
        ("se,se", "0", [], "twice"),
        ("cbma", "0", [], "did you mean 'cbam'"),
        ("se", "0,0", [], "a seed twice"),
        ("se", "a", [], "valid: 0-2"),
        ("se", "0", ["--model.attention=se"], "name them with --attention"),
        ("se", "0", ["--jobz=2"], "override '--jobz=2'"),
        ("[se", "0", [], "not a list"),
    ],
)
def test_refusals(attention: str, seeds: str, overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(CONFIG, attention, seeds, tmp_path, overrides)


def test_another_comparisons_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text('{"identity": "other"}')
    with pytest.raises(UsageError, match="another config"):
        make_plan(CONFIG, "se", "0", tmp_path, [])
    (tmp_path / "compare.json").rename(tmp_path / "thesis.tex")
    with pytest.raises(UsageError, match="holds no comparison"):
        make_plan(CONFIG, "se", "0", tmp_path, [])


def test_seeds() -> None:
    assert parse_seeds("0-3") == (0, 1, 2, 3)
    assert parse_seeds("5") == (5,)


def test_pictures_are_drawn_evenly() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2] * 3)
    assert sorted(labels[pick(labels, 9)].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(pick(labels, 103))) == 103
