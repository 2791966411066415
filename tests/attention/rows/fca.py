"""Rows of ``fca``."""

from __future__ import annotations

import torch
from cases import Case, dense, sigmoid, values
from torch import Tensor, nn


def fca(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    basis = p["basis"]
    size = basis.shape[-1]
    h, w = x.shape[2:]
    spectrum = torch.zeros_like(x[:, :, :1, :1])
    for i in range(size):
        for j in range(size):
            cell = x[:, :, i * h // size : -(-(i + 1) * h // size), j * w // size : -(-(j + 1) * w // size)]
            spectrum = spectrum + cell.mean((2, 3), keepdim=True) * basis[:, i, j, None, None]
    return x * sigmoid(dense(p, "excite", dense(p, "squeeze", spectrum).clamp(min=0)))


ROWS = [
    Case("fca", 32, 2 * 32 * 2, {"channel": "channel"}, fca),
    Case("fca", 5, 2 * 5, {"channel": "channel"}, fca),  # fewer channels than frequencies and than the reduction
    Case("fca", 21, 2 * 21 * 5, {"channel": "channel"}, fca, {"reduction": 4, "frequencies": 2, "size": 14}),
]

REFUSED = [
    ({"size": 10}, "size must be a positive multiple of 7, got 10"),
    ({"frequencies": 33}, "frequencies must be 1 to 32, got 33"),
    ({"frequencies": 0}, "frequencies must be 1 to 32, got 0"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
]
