"""Rows of ``sse``."""

from __future__ import annotations

from cases import Case, Live, sigmoid, values
from torch import Tensor, nn


def sse(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    scores = (x * p["squeeze.weight"]).sum(1, keepdim=True) + p["squeeze.bias"]
    return x * sigmoid(scores)


class SegmentationModels(nn.Sequential):
    """The gate under segmentation_models.pytorch's names."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


ROWS = [
    Case("sse", 9, 9 + 1, {"spatial": "spatial"}, sse),
    Case("sse", 32, 32 + 1, {"spatial": "spatial"}, sse),
]

LIVE = [Live("sse", "smp's names", lambda: SegmentationModels(10), 10)]
