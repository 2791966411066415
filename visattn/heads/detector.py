"""What all detectors share around torchvision's own forward pass: checked input, labels from 0, heads in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visattn.heads.pyramid import Pyramid
from visattn.heads.resize import Resize
from visattn.heads.settings import Settings
from visattn.types import Frames, UsageError

Targets = Sequence[dict[str, Tensor]]

HALVES = (torch.float16, torch.bfloat16)


class AbstractDetector(nn.Module):
    """A detector of torchvision's with visattn's contract; it stands in front of torchvision's class.

    In training mode ``detector(images, targets)`` returns a dict of losses, in eval mode
    ``detector(images)`` a list of ``{"boxes": (n, 4), "labels": (n,), "scores": (n,)}``, boxes in
    float32 and in pixels of the given picture. Images are float ``(3, H, W)`` in 0 to 1, of any sizes;
    labels are 0 to ``num_classes - 1``, outside. Under autocast the backbone and the pyramid alone
    run in half precision: torchvision's box coders take the type of what they are given, and exact
    regressions in bfloat16 decode to boxes that are pixels off.
    """

    backbone: Pyramid
    transform: Resize
    num_classes: int  # of objects, without a background
    background: int  # 1 where label 0 is torchvision's background, else 0

    def __init__(self, backbone: Pyramid, settings: Settings, **own: Any) -> None:
        classes = settings.num_classes + self.background
        shared = {"num_classes": classes, "image_mean": list(settings.mean), "image_std": list(settings.std)}
        super().__init__(backbone=backbone, **{**shared, **own})
        self.num_classes = settings.num_classes
        self.transform = Resize.like(self.transform)

    @property
    def body(self) -> nn.Module:
        """The host, under its own keys: attention files of a classifier fit here and the other way round."""
        return self.backbone.body

    @property
    def frames(self) -> Frames | None:
        """Where the pictures of the last batch lie in it, for ``visattn.maps.crop``; none before the first batch."""
        return self.transform.frames

    def forward(self, images: Sequence[Tensor], targets: Targets | None = None) -> Any:
        """Return the losses of a training batch, or the detections in pictures.

        Raises:
            UsageError: images, boxes or labels that are not as above, each named; a box without area.
        """
        images = list(images)
        _check_images(images, self)
        shifted = None
        if self.training:
            _check_targets(images, targets, self.num_classes)
            shifted = [{**target, "labels": target["labels"] + self.background} for target in targets or ()]
        device = images[0].device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with self.backbone.lowered(half), torch.autocast(device, enabled=False):
            result = super().forward(images, shifted)
        if self.training:
            return result
        return [{**found, "labels": found["labels"] - self.background} for found in result]


def _check_images(images: list[Tensor], detector: nn.Module) -> None:
    if not images:
        raise UsageError("a batch of 0 images; valid: a list of at least one float tensor (3, H, W) in 0 to 1")
    for i, image in enumerate(images):
        if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise UsageError(f"image {i} is {image.dtype} {tuple(image.shape)}; valid: float (3, H, W) in 0 to 1")
    dtype = next(detector.parameters()).dtype
    if dtype in HALVES:
        raise UsageError(f"the detector's weights are {dtype}; valid: float32 weights, and autocast for half precision")


def _check_targets(images: list[Tensor], targets: Targets | None, num_classes: int) -> None:
    """Refuse what would end in a device assert or in no finite loss, at the price of one synchronisation."""
    if targets is None or len(targets) != len(images):
        given = "none" if targets is None else len(targets)
        raise UsageError(f"{len(images)} images with {given} targets; valid in training: one dict each")
    for i, target in enumerate(targets):
        missing = {"boxes", "labels"} - target.keys()
        if missing:
            raise UsageError(f"target {i} lacks {', '.join(sorted(missing))}; valid: boxes (n, 4) and labels (n,)")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.dim() != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
            raise UsageError(f"boxes of target {i} are {boxes.dtype} {tuple(boxes.shape)}; valid: float (n, 4), n >= 0")
        if labels.shape != boxes.shape[:1] or labels.dtype != torch.int64:
            raise UsageError(
                f"labels of target {i} are {labels.dtype} {tuple(labels.shape)}; valid: int64 ({len(boxes)},)"
            )
    boxes, labels = torch.cat([t["boxes"] for t in targets]), torch.cat([t["labels"] for t in targets])
    flat = ~((boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1))  # not "<=": NaN is refused too
    unknown = (labels < 0) | (labels >= num_classes)
    if bool((flat | unknown).any()):
        _refuse(targets, flat, unknown, num_classes)


def _refuse(targets: Targets, flat: Tensor, unknown: Tensor, num_classes: int) -> None:
    places = [(i, j) for i, target in enumerate(targets) for j in range(len(target["labels"]))]
    i, j = places[int((flat | unknown).nonzero()[0])]
    if unknown[places.index((i, j))]:
        label = int(targets[i]["labels"][j])
        raise UsageError(f"label {label} of target {i}, box {j}, is unknown; valid: 0 to {num_classes - 1}")
    box = [round(value, 2) for value in targets[i]["boxes"][j].tolist()]
    raise UsageError(f"box {box} of target {i}, box {j}, has no area; valid: x1 < x2 and y1 < y2, finite")
