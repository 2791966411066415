"""Under autocast the boxes stay where the regressions put them: heads and decoding are in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection

import visattn
from visattn.heads import ARCHITECTURES
from visattn.heads.detector import AbstractDetector

PICTURE = torch.rand(3, 480, 640, generator=torch.Generator().manual_seed(0))
OBJECTS = torch.tensor([[403.0, 301, 437, 335], [12, 340, 291, 471], [505, 33, 611, 208], [300.5, 97.25, 371, 190]])
THEIRS = {"retinanet": detection.RetinaNet, "fcos": detection.FCOS, "ssd": detection.ssd.SSD}


def build(arch: str) -> AbstractDetector:
    torch.manual_seed(0)
    return visattn.create_detector(arch, "test_resnet", num_classes=4, image_size=480, channels=64).eval()


class Exact(nn.Module):
    """A head that knows the answer; its last step is a linear layer, as that of every head is a convolution."""

    def __init__(self, detector: AbstractDetector) -> None:
        super().__init__()
        self.kept = detector.head
        self.detector = [detector]  # no child

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        (detector,) = self.detector
        outputs = self.kept(features)
        frames = detector.frames
        assert frames is not None
        images = detection.image_list.ImageList(torch.zeros(1, 3, *frames.padded), frames.scaled)
        (anchors,) = detector.anchor_generator(images, features)
        scale = torch.tensor(frames.scaled[0][::-1]) / torch.tensor(frames.pictures[0][::-1])
        boxes = OBJECTS * scale.repeat(2)
        nearest = torch.cdist(centres(anchors), centres(boxes)).argmin(1)
        exact = encoded(detector, boxes[nearest], anchors)
        logits = torch.full_like(outputs["cls_logits"].float(), -12.0)
        if detector.background:
            logits[..., 0] = 12
        for i in range(len(boxes)):
            best = inside(boxes[i], anchors)
            logits[0, best] = -12
            logits[0, best, i + detector.background] = 12
            exact[best] = encoded(detector, boxes[i : i + 1], anchors[best : best + 1])[0]
        found = {"cls_logits": logits, "bbox_regression": F.linear(exact, torch.eye(4))[None]}
        if "bbox_ctrness" in outputs:
            found["bbox_ctrness"] = torch.full_like(outputs["bbox_ctrness"].float(), 12.0)
        return found


def centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def inside(box: Tensor, anchors: Tensor) -> int:
    """Return the place of the anchor whose centre is nearest to that of ``box``."""
    return int(torch.cdist(centres(anchors), centres(box[None])).argmin())


def encoded(detector: AbstractDetector, boxes: Tensor, anchors: Tensor) -> Tensor:
    coder: Any = detector.box_coder
    return coder.encode(anchors, boxes) if hasattr(coder, "normalize_by_size") else coder.encode_single(boxes, anchors)


def error(found: list[dict[str, Tensor]]) -> float:
    """Return how far, in pixels, the farthest object lies from the detection of its label."""
    (one,) = found
    boxes = torch.stack([one["boxes"][one["labels"] == label][0] for label in range(len(OBJECTS))])
    return float((boxes.float() - OBJECTS).abs().max())


@pytest.mark.parametrize("arch", sorted(THEIRS))
def test_exact_regressions_decode_exactly(arch: str) -> None:
    detector = build(arch)
    detector.head = Exact(detector)
    with torch.no_grad():
        plain = detector([PICTURE])
        with torch.autocast("cpu", torch.bfloat16):
            guarded = detector([PICTURE])
            naive = THEIRS[arch].forward(detector, [PICTURE])
    naive = [{**one, "labels": one["labels"] - detector.background} for one in naive]
    assert error(plain) < 1e-2
    assert error(guarded) < 1e-2
    assert guarded[0]["boxes"].dtype == guarded[0]["scores"].dtype == torch.float32
    assert error(naive) > 0.5, "without the guard this test must fail"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("training", [False, True])
def test_half_precision_ends_at_the_pyramid(arch: str, training: bool) -> None:
    detector = build(arch).train(training)
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for name, module in detector.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            lower = name.startswith("backbone.")
            module.register_forward_hook(lambda m, a, y, lower=lower: kinds[lower].add(y.dtype))
    target = {"boxes": OBJECTS, "labels": torch.arange(4)}
    with torch.autocast("cpu", torch.bfloat16):
        result = detector([PICTURE], [target] if training else None)
    assert kinds == {True: {torch.bfloat16}, False: {torch.float32}}
    values = list(result.values()) if training else [x for one in result for x in (one["boxes"], one["scores"])]
    assert {value.dtype for value in values} == {torch.float32}
