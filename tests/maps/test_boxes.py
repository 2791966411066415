"""Boxes drawn over pictures: where they are, what they say, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visattn.maps.boxes import COLORS, Marked, draw_boxes
from visattn.maps.canvas import GAP
from visattn.maps.render import plain

GREY = np.full((100, 200, 3), 128, np.uint8)
RED, GREEN, BLUE = (int(COLORS[1][i : i + 2], 16) for i in (1, 3, 5))


def pixels(boxes: list[Marked], image: object = GREY, **options: object) -> np.ndarray:
    """Return what is drawn, without its frame."""
    drawn = np.asarray(draw_boxes(image, boxes, **options))  # type: ignore[arg-type]
    return drawn[GAP:-GAP, GAP:-GAP]


@pytest.mark.parametrize("scale", [1, 2])
def test_a_found_box_is_where_it_should_be(scale: int) -> None:
    shown = pixels([Marked((40.0, 30.0, 120.0, 80.0), "dog", 0.9, 1)], size=200 * scale)
    colored = (shown == (RED, GREEN, BLUE)).all(-1)
    below_tag = colored[35 * scale :]
    rows, columns = np.nonzero(below_tag)
    assert (columns.min() / scale, columns.max() / scale) == pytest.approx((40, 120), abs=1)
    assert (rows.max() / scale + 35) == pytest.approx(80, abs=1)
    assert not colored[50 * scale, 80 * scale]


def test_what_is_there_is_dashed_white_over_dark() -> None:
    row = pixels([Marked((20.0, 20.0, 180.0, 90.0), "dog", None, 1)], size=200)[20, 20:180]
    assert {tuple(p) for p in row.tolist()} == {(255, 255, 255), (16, 20, 24)}


def test_names_stay_inside_and_unsure_boxes_lie_below() -> None:
    corner = Marked((150.0, 0.0, 199.0, 20.0), "a very long name of a class " * 4, 0.5, 0)
    assert pixels([corner]).shape == (100, 200, 3)
    both = [Marked((40.0, 40.0, 120.0, 80.0), "", score, label) for score, label in ((0.9, 1), (0.6, 0))]
    assert (pixels(both)[60, 40] == (RED, GREEN, BLUE)).all()
    assert (pixels(both) == pixels(both[::-1])).all()


@pytest.mark.parametrize("box", [(-50.0, -50.0, 500.0, 500.0), (10.0, 10.0, 10.0, 10.0), (300.0, 300.0, 400.0, 400.0)])
def test_boxes_beyond_the_picture_or_without_area(box: tuple[float, ...]) -> None:
    for score in (None, 0.9):
        assert pixels([Marked(box, "dog", score, 0)]).shape == (100, 200, 3)


def test_no_box_is_the_plain_picture() -> None:
    tensor = torch.from_numpy(GREY)
    assert np.asarray(draw_boxes(tensor, [], caption="one")).tolist() == np.asarray(plain(GREY, caption="one")).tolist()
