"""Rows of ``cbam``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, batch_norm, dense, sigmoid, values
from torch import Tensor, nn


def cbam(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)

    def mlp(z: Tensor) -> Tensor:
        return dense(p, "mlp.2", dense(p, "mlp.0", z).clamp(min=0))

    x = x * sigmoid(mlp(x.mean((2, 3), keepdim=True)) + mlp(x.amax((2, 3), keepdim=True)))
    pooled = torch.stack([x.amax(1), x.mean(1)], dim=1)
    weight = p["conv.weight"]
    z = F.conv2d(pooled, weight, padding=weight.shape[-1] // 2)
    return x * sigmoid(batch_norm(module, p, "norm", z))


ROWS = [
    Case("cbam", 32, 2 * 32 * 2 + 2 + 32 + 2 * 49 + 2, {"channel": "channel", "spatial": "spatial"}, cbam),
    Case(
        "cbam",
        9,
        2 * 9 * 3 + 3 + 9 + 2 * 9 + 2,
        {"channel": "channel", "spatial": "spatial"},
        cbam,
        {"reduction": 3, "kernel": 3},
    ),
]

REFUSED = [
    ({"kernel": 6}, "kernel must be odd and positive, got 6"),
]
