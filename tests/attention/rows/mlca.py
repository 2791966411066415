"""Rows of ``mlca``."""

from __future__ import annotations

import torch
from cases import Case, sigmoid, values
from torch import Tensor, nn


def _averaged(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Average ``x`` to ``sizes`` bins, from the floor of their start to the ceiling of their end."""
    for axis, size in zip((2, 3), sizes, strict=True):
        n = x.shape[axis]
        bins = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        x = torch.stack([x.narrow(axis, a, b - a).mean(axis) for a, b in bins], dim=axis)
    return x


def _mixed(z: Tensor, weight: Tensor) -> Tensor:
    """Sum the neighbours of each value along the last axis, zeros beyond its ends."""
    reach, n = weight.numel() // 2, z.shape[-1]
    offsets = torch.arange(n)[None] - torch.arange(n)[:, None]
    inside = offsets.abs() <= reach
    matrix = torch.where(inside, weight.flatten()[(offsets + reach).clamp(0, 2 * reach)], 0.0)
    return torch.einsum("ij,nj->ni", matrix, z)


def mlca(module: nn.Module, x: Tensor, *, size: int = 5, share: float = 0.5) -> Tensor:
    p = values(module)
    n, c = x.shape[:2]
    patches = _averaged(x, (size, size))
    line = torch.cat([patches[:, :, i, j] for i in range(size) for j in range(size)], dim=1)
    local = _mixed(line, p["local.weight"]).view(n, size, size, c).permute(0, 3, 1, 2)
    whole = _mixed(patches.mean((2, 3)), p["whole.weight"])[:, :, None, None]
    gate = share * sigmoid(local) + (1 - share) * sigmoid(whole)
    return x * _averaged(gate, tuple(x.shape[2:]))


ROWS = [
    Case("mlca", 16, 2 * 3, {"full": "full"}, mlca),
    Case(
        "mlca",
        5,
        2 * 5,
        {"full": "full"},
        lambda m, x: mlca(m, x, size=3, share=0.25),
        {"size": 3, "kernel": 5, "share": 0.25},
    ),
]

REFUSED = [
    ({"size": 0}, "size must be at least 1, got 0"),
    ({"kernel": 4}, "kernel must be odd and positive, got 4"),
    ({"share": 1.0}, "share must be above 0 and below 1, got 1.0"),
]
