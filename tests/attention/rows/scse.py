"""Rows of ``scse``."""

from __future__ import annotations

import torch
from cases import Case, Live, dense, sigmoid, values
from torch import Tensor, nn

MAPS = {"channel": "channel", "spatial": "spatial"}


def scse(module: nn.Module, x: Tensor, add: bool = False) -> Tensor:
    p = values(module)
    squeezed = x.mean((2, 3), keepdim=True)
    channel = sigmoid(dense(p, "mlp.2", dense(p, "mlp.0", squeezed).clamp(min=0)))
    spatial = sigmoid(dense(p, "squeeze", x))
    if add:
        return x * (channel + spatial)
    larger, smaller = torch.maximum(channel, spatial), torch.minimum(channel, spatial)
    return torch.where(x >= 0, x * larger, x * smaller)


class SegmentationModels(nn.Module):
    """The block under segmentation_models.pytorch's names, which adds."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()]
        self.cSE = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cSE(x) + x * self.sSE(x)


ROWS = [
    Case("scse", 9, 2 * 9 * 4 + 4 + 2 * 9 + 1, MAPS, scse),
    Case("scse", 32, 2 * 32 * 2 + 2 + 2 * 32 + 1, MAPS, scse, {"reduction": 16}),
    Case(
        "scse", 6, 2 * 6 * 5 + 5 + 2 * 6 + 1, MAPS, lambda m, x: scse(m, x, add=True), {"hidden": 5, "combine": "add"}
    ),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"hidden": -2}, "hidden must be at least 1, got -2"),
    ({"combine": "sum"}, "unknown combine 'sum'; .*valid: max, add"),
]

LIVE = [Live("scse", "smp's names", lambda: SegmentationModels(32, 2), 32)]
