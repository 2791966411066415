"""Whether anchors can find boxes: told before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import visattn
from visattn.heads.fit import best_possible_recall
from visattn.types import UsageError

GENERATOR = torch.Generator().manual_seed(0)


def pictures(low: float, high: float) -> list[tuple[tuple[int, int], Tensor]]:
    """Return three pictures of 480 x 640 with 20 squares each, their sides from ``low`` to ``high`` pixels."""
    found = []
    for _ in range(3):
        side = low + (high - low) * torch.rand(20, 1, generator=GENERATOR)
        corner = torch.rand(20, 2, generator=GENERATOR) * (torch.tensor([640.0, 480.0]) - side)
        found.append(((480, 640), torch.cat([corner, corner + side], 1)))
    return found


def build(arch: str, **keywords: Any) -> Any:
    return visattn.create_detector(arch, "test_resnet", num_classes=2, channels=64, **keywords)


@pytest.mark.parametrize("arch", ["fasterrcnn", "retinanet", "ssd"])
def test_usual_boxes_are_found(arch: str) -> None:
    detector = build(arch, image_size=480).train()
    assert best_possible_recall(detector, pictures(60, 300)) > 0.98
    assert detector.transform.training
    assert detector.frames is None


@pytest.mark.parametrize("arch", ["fasterrcnn", "retinanet", "ssd"])
def test_boxes_that_no_anchor_fits_are_told_of(arch: str) -> None:
    with pytest.warns(UserWarning, match=r"the anchors can find .* of 60 boxes at best"):
        assert best_possible_recall(build(arch, image_size=480), pictures(3, 9)) < 0.5


def test_small_images_keep_anchors_that_overlap_their_neighbours() -> None:
    # anchors of a quarter of the usual size, 8 pixels apart, would miss every other small box
    assert best_possible_recall(build("retinanet", image_size=192), pictures(45, 300)) > 0.98
    with pytest.warns(UserWarning, match="anchor_scale"):
        assert best_possible_recall(build("retinanet", image_size=192, anchor_scale=0.24), pictures(45, 300)) < 0.9


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no anchors to fit"):
        best_possible_recall(build("fcos", image_size=96), pictures(50, 60))
    with pytest.raises(UsageError, match="0 boxes"):
        best_possible_recall(build("ssd", image_size=96), [((10, 10), torch.zeros(0, 4))])
