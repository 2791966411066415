"""torchvision's resizing and padding of a batch, which also remembers what it did."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from visattn.types import Frames


class Resize(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision ships no annotations
    """torchvision's transform; ``frames`` tells where each picture of the last batch lies in it."""

    frames: Frames | None = None

    @classmethod
    def like(cls, other: GeneralizedRCNNTransform) -> Resize:
        """Return a transform that does what ``other`` does."""
        sizes = (other.min_size, other.max_size)
        return cls(*sizes, other.image_mean, other.image_std, other.size_divisible, other.fixed_size)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> tuple[Any, Any]:
        """Return the normalised, resized, padded batch and the targets in its pixels."""
        batch, scaled = super().forward(images, targets)
        if not torch.onnx.is_in_onnx_export():  # sizes are tensors there
            pictures = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
            height, width = batch.tensors.shape[-2:]
            self.frames = Frames((int(height), int(width)), [(int(h), int(w)) for h, w in batch.image_sizes], pictures)
        return batch, scaled
