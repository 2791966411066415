"""Rows of ``cbam``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, Live, batch_norm, dense, sigmoid, values
from timm.layers import create_attn
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


class Pytorchcv(nn.Module):
    """The block under pytorchcv's names, which load the authors' weights there."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        fc1, fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.ch_gate = nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": fc1, "fc2": fc2})})
        layers = {"conv": nn.Conv2d(2, 1, 7, padding=3, bias=False), "bn": nn.BatchNorm2d(1)}
        self.sp_gate = nn.ModuleDict({"conv": nn.ModuleDict(layers)})
        self.layers = [fc1, fc2, *layers.values()]

    def forward(self, x: Tensor) -> Tensor:
        fc1, fc2, conv, bn = self.layers
        x = x * sum(fc2(fc1(z).relu()) for z in (x.mean((2, 3)), x.amax((2, 3)))).sigmoid()[:, :, None, None]
        return x * bn(conv(torch.stack([x.max(1).values, x.mean(1)], dim=1))).sigmoid()


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
    Case(
        "cbam",
        9,
        2 * 9 * 5 + 5 + 9 + 2 * 49 + 2,
        {"channel": "channel", "spatial": "spatial"},
        cbam,
        {"hidden": 5},
    ),
]

REFUSED = [
    ({"kernel": 6}, "kernel must be odd and positive, got 6"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
]

LIVE = [
    Live("cbam", "timm", lambda: create_attn("cbam", 64), 64),
    Live("cbam", "timm-biases", lambda: create_attn("cbam", 40, mlp_bias=True, spatial_kernel_size=3), 40),
    Live("cbam", "pytorchcv's names", lambda: Pytorchcv(32, 2), 32),
]
