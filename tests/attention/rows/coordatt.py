"""Rows of ``coordatt``."""

from __future__ import annotations

import torch
from cases import Case, Live, batch_norm, dense, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn


def coordatt(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
    z = batch_norm(module, p, "norm", dense(p, "shared", torch.cat([rows, columns], dim=2)))
    z = z * (z + 3).clamp(0, 6) / 6
    height = sigmoid(dense(p, "height_conv", z[:, :, : x.shape[2]]))
    width = sigmoid(dense(p, "width_conv", z[:, :, x.shape[2] :])).transpose(2, 3)
    return x * height * width


ROWS = [
    Case("coordatt", 32, 3 * 32 * 8 + 2 * 32 + 3 * 8, {"height": "full", "width": "full"}, coordatt),
    Case(
        "coordatt",
        20,
        3 * 20 * 10 + 2 * 20 + 3 * 10,
        {"height": "full", "width": "full"},
        coordatt,
        {"reduction": 2},
    ),
    Case("coordatt", 5, 3 * 5 * 3 + 2 * 5 + 3 * 3, {"height": "full", "width": "full"}, coordatt, {"hidden": 3}),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
]

LIVE = [
    Live("coordatt", "timm", lambda: create_attn("coord", 64), 64),
    Live("coordatt", "timm-as-authors", lambda: create_attn("coord", 64, rd_channels=8, bias=True), 64),
]
