"""Rows of ``triplet``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, batch_norm, sigmoid, values
from torch import Tensor, nn

MAPS = {"width": "full", "height": "full", "spatial": "spatial"}
# The axis that each gate's statistics pool, and the two over which it varies: N, C, H, W are 0 to 3.
AXES = {"cw": (2, 1, 3), "hc": (3, 2, 1), "hw": (1, 2, 3)}


def triplet(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    names = [name for name in AXES if f"{name}.conv.weight" in p]
    total = torch.zeros_like(x)
    for name in names:
        pooled, first, second = AXES[name]
        planes = torch.stack([x.amax(pooled), x.mean(pooled)], dim=1)  # the axes left keep their order
        weight = p[f"{name}.conv.weight"]
        if first > second:
            weight = weight.transpose(2, 3)
        z = F.conv2d(planes, weight, padding=weight.shape[-1] // 2)
        gate = sigmoid(batch_norm(module, p, f"{name}.norm", z))[:, 0]
        total = total + gate.unsqueeze(pooled)
    return x * total / len(names)


ROWS = [
    Case("triplet", 5, 3 * (2 * 49 + 2), MAPS, triplet),
    Case("triplet", 8, 3 * (2 * 9 + 2), MAPS, triplet, {"kernel": 3}),
    Case("triplet", 6, 2 * (2 * 49 + 2), {"width": "full", "height": "full"}, triplet, {"branches": 2}),
]

REFUSED = [
    ({"kernel": 2}, "kernel must be odd and positive, got 2"),
    ({"branches": 1}, "branches must be 2 or 3, got 1"),
]
