"""Rows of ``spatial_gate``."""

from __future__ import annotations

import torch.nn.functional as F
from cases import Case, Live, batch_norm, sigmoid, values
from timm.layers.cbam import SpatialAttn
from torch import Tensor, nn


def spatial_gate(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    weight = p["conv.weight"]
    pad, (h, w) = weight.shape[-1] // 2, x.shape[2:]
    planes = [F.pad(z, (pad,) * 4) for z in (x.amax(1), x.mean(1))]
    z = sum(
        weight[0, k, i, j] * plane[:, i : i + h, j : j + w]
        for k, plane in enumerate(planes)
        for i in range(2 * pad + 1)
        for j in range(2 * pad + 1)
    )
    assert isinstance(z, Tensor)
    return x * sigmoid(batch_norm(module, p, "norm", z[:, None]))


ROWS = [
    Case("spatial_gate", 5, 2 * 49 + 2, {"spatial": "spatial"}, spatial_gate),
    Case("spatial_gate", 12, 2 * 9 + 2, {"spatial": "spatial"}, spatial_gate, {"kernel": 3}),
]

REFUSED = [
    ({"kernel": 6}, "kernel must be odd and positive, got 6"),
    ({"kernel": -1}, "kernel must be odd and positive, got -1"),
]

LIVE = [
    Live("spatial_gate", "timm", SpatialAttn, 30, {"channels": 30}),
    Live("spatial_gate", "timm-3x3", lambda: SpatialAttn(kernel_size=3), 30, {"channels": 30}),
]
