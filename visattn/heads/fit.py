"""Whether a detector's anchors can find given boxes at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from visattn.heads.detector import AbstractDetector
from visattn.types import UsageError

OVERLAP = 0.5  # intersection over union from which an anchor is trained to find a box
ENOUGH = 0.98


@torch.no_grad()
def best_possible_recall(detector: AbstractDetector, pictures: Iterable[tuple[tuple[int, int], Tensor]]) -> float:
    """Return the share of boxes that some anchor overlaps by at least 0.5, and warn where it is below 0.98.

    Boxes are resized as the detector does it in evaluation. A low share trains without any complaint
    and ends in a low average precision; ``anchor_scale`` or a larger ``image_size`` mends it.

    Args:
        detector: with anchors, so any but FCOS.
        pictures: height and width of each picture, and its boxes ``(n, 4)`` in its pixels; some 50 are enough.

    Raises:
        UsageError: the detector has no anchors, or there is no box.

    Example:
        >>> from visattn.models.detector import create_detector
        >>> detector = create_detector("retinanet", "test_resnet", num_classes=1, image_size=400, channels=64)
        >>> best_possible_recall(detector, [((400, 600), torch.tensor([[100.0, 50, 180, 130]]))])
        1.0
    """
    if type(detector).__name__ == "FCOS":
        raise UsageError("an FCOS has no anchors to fit; valid: fasterrcnn, retinanet, ssd")
    model: Any = detector
    generator = model.rpn.anchor_generator if hasattr(model, "rpn") else model.anchor_generator
    strides = [level.stride for level in detector.backbone.levels]
    strides += [strides[-1] * 2**i for i in range(1, len(generator.num_anchors_per_location()) - len(strides) + 1)]
    found = []
    for (height, width), boxes in pictures:
        scaled, (h, w), padded = _resized(detector, height, width, boxes)
        maps = [torch.zeros(1, 1, *(math.ceil(side / stride) for side in padded)) for stride in strides]
        (anchors,) = generator(ImageList(torch.zeros(1, 3, *padded), [(h, w)]), maps)
        found.append(box_iou(scaled, anchors).amax(1) if len(boxes) else torch.zeros(0))
    overlaps = torch.cat(found) if found else torch.zeros(0)
    if not len(overlaps):
        raise UsageError("0 boxes to fit anchors to; valid: at least one")
    recall = float((overlaps >= OVERLAP).float().mean())
    if recall < ENOUGH:
        warnings.warn(
            f"the anchors can find {recall:.1%} of {len(overlaps)} boxes at best (below {ENOUGH:.0%}): "
            "try another anchor_scale or a larger image_size",
            stacklevel=3,
        )
    return recall


def _resized(
    detector: AbstractDetector, height: int, width: int, boxes: Tensor
) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
    """Return the boxes, the picture's size and the padded size as evaluation has them."""
    transform = detector.transform
    training, frames = transform.training, transform.frames
    transform.eval()
    batch, targets = transform([torch.zeros(3, height, width)], [{"boxes": boxes.cpu().float()}])
    transform.train(training)
    transform.frames = frames
    padded = (int(batch.tensors.shape[-2]), int(batch.tensors.shape[-1]))
    return targets[0]["boxes"], batch.image_sizes[0], padded
