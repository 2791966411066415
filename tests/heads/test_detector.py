"""What a detector takes and refuses: empty pictures, labels from 0, boxes with an area."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import visattn
from visattn.heads import ARCHITECTURES
from visattn.heads.detector import AbstractDetector
from visattn.types import UsageError

IMAGES = list(torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0)))
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
GOOD = {"boxes": torch.tensor([[4.0, 5, 40, 50]]), "labels": torch.tensor([2])}


def build(arch: str = "fcos") -> AbstractDetector:
    torch.manual_seed(0)
    return visattn.create_detector(arch, "test_resnet", num_classes=3, image_size=64, channels=64)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("targets", [[GOOD, EMPTY], [EMPTY, EMPTY]], ids=["one empty", "all empty"])
def test_pictures_without_objects_train(arch: str, targets: list[dict[str, Tensor]]) -> None:
    detector = build(arch)
    losses = detector(IMAGES, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_labels_come_back_as_they_went_in(arch: str) -> None:
    detector = build(arch).train()
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    targets = [{"boxes": torch.tensor([[8.0, 8, 56, 56]]), "labels": torch.tensor([label])} for label in (0, 2)]
    images = [torch.full((3, 64, 64), 0.1), torch.full((3, 64, 64), 0.9)]
    for _ in range(25):
        optimizer.zero_grad()
        torch.stack(list(detector(images, targets).values())).sum().backward()
        optimizer.step()
    assert [int(t["labels"]) for t in targets] == [0, 2], "the caller's targets stay what they were"
    for norm in detector.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
            norm.reset_running_stats()
    detector(images, targets)
    found = detector.eval()(images)
    assert [int(one["labels"][one["scores"].argmax()]) for one in found] == [0, 2]


def without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in GOOD.items() if name != key}


def boxes(*rows: list[float]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(rows), "labels": torch.zeros(len(rows), dtype=torch.int64)}


TARGETS = [
    ([GOOD], "2 images with 1 targets"),
    (None, "2 images with none targets"),
    ([GOOD, without("labels")], "target 1 lacks labels"),
    ([GOOD, without("boxes")], "target 1 lacks boxes"),
    ([{**GOOD, "boxes": torch.zeros(0)}, GOOD], r"boxes of target 0 are torch.float32 \(0,\)"),
    ([{**GOOD, "boxes": GOOD["boxes"].long()}, GOOD], "boxes of target 0 are torch.int64"),
    ([{**GOOD, "labels": torch.tensor([1, 2])}, GOOD], r"labels of target 0 are torch.int64 \(2,\)"),
    ([{**GOOD, "labels": torch.tensor([1.0])}, GOOD], "labels of target 0 are torch.float32"),
    ([GOOD, {**GOOD, "labels": torch.tensor([3])}], "label 3 of target 1, box 0, is unknown; valid: 0 to 2"),
    ([GOOD, {**GOOD, "labels": torch.tensor([-1])}], "label -1 of target 1"),
    ([boxes([1, 1, 9, 9], [5, 5, 5, 9]), GOOD], r"box \[5.0, 5.0, 5.0, 9.0\] of target 0, box 1, has no area"),
    ([GOOD, boxes([9, 1, 5, 9])], "target 1, box 0, has no area"),
    ([GOOD, boxes([1, 1, float("nan"), 9])], "has no area"),
    ([GOOD, boxes([1, 1, float("inf"), 9])], "has no area"),
]


@pytest.mark.parametrize(("targets", "message"), TARGETS, ids=[message for _, message in TARGETS])
def test_targets_that_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build().train()(IMAGES, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "0 images"),
        ([torch.zeros(3, 64, 64, dtype=torch.uint8)], "image 0 is torch.uint8"),
        ([torch.zeros(1, 64, 64)], r"image 0 is torch.float32 \(1, 64, 64\)"),
        ([torch.zeros(3, 64)], r"\(3, 64\)"),
    ],
)
def test_images_that_are_refused(images: list[Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build().eval()(images)


@pytest.mark.parametrize("change", [lambda d: d.half(), lambda d: d.bfloat16()])
def test_weights_in_half_precision_are_refused(change: Callable[[AbstractDetector], AbstractDetector]) -> None:
    with pytest.raises(UsageError, match="valid: float32 weights, and autocast"):
        change(build()).eval()(IMAGES)


def test_frames_tell_where_pictures_lie() -> None:
    detector = build().eval()
    assert detector.frames is None
    detector([torch.rand(3, 64, 128), torch.rand(3, 200, 100)])
    assert detector.frames is not None
    assert detector.frames.padded == (128, 128)
    assert detector.frames.scaled == [(64, 128), (128, 64)]
    assert detector.frames.pictures == [(64, 128), (200, 100)]
