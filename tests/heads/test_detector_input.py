"""What a detector takes and refuses: empty pictures, labels from 0, boxes with an area."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import detection

import visattn
from visattn.heads import ARCHITECTURES
from visattn.heads.detector import AbstractDetector
from visattn.types import UsageError

IMAGES = list(torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0)))
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
# torchvision's class, and what it adds to a label for its background
THEIRS = {
    "fasterrcnn": (detection.FasterRCNN, 1),
    "retinanet": (detection.RetinaNet, 0),
    "fcos": (detection.FCOS, 0),
    "ssd": (detection.ssd.SSD, 1),
}
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
def test_labels_are_shifted_both_ways_where_there_is_a_background(arch: str) -> None:
    theirs, shift = THEIRS[arch]
    detector, targets = build(arch), [GOOD, EMPTY]
    shifted = [{**target, "labels": target["labels"] + shift} for target in targets]
    torch.manual_seed(1)
    losses = detector(IMAGES, targets)
    torch.manual_seed(1)
    assert losses == theirs.forward(detector, IMAGES, shifted)
    assert GOOD["labels"].tolist() == [2], "the caller's targets stay what they were"
    detector.eval()
    detector.score_thresh = 0.0
    for one, other in zip(detector(IMAGES), theirs.forward(detector, IMAGES), strict=True):
        assert torch.equal(one["labels"] + shift, other["labels"])
        assert torch.equal(one["boxes"], other["boxes"])
        assert arch == "fasterrcnn" or len(one["labels"])


def without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in GOOD.items() if name != key}


def boxes(*rows: list[float]) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(rows, dtype=torch.float32), "labels": torch.zeros(len(rows), dtype=torch.int64)}


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
