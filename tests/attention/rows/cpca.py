"""Rows of ``cpca``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, dense, sigmoid, values
from torch import Tensor, nn

MAPS = {"channel": "channel", "full": "full"}


def depthwise(p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    rows, columns = weight.shape[2:]
    padded = F.pad(z, (columns // 2, columns // 2, rows // 2, rows // 2))
    height, width = z.shape[2:]
    y = torch.zeros_like(z) + bias[:, None, None]
    for i in range(rows):
        for j in range(columns):
            y = y + padded[:, :, i : i + height, j : j + width] * weight[:, 0, i, j, None, None]
    return y


def cpca(module: nn.Module, x: Tensor, *, code: bool = True) -> Tensor:
    p = values(module)
    if code:
        x = dense(p, "mix", x)
        x = x * (1 + torch.erf(x / 2**0.5)) / 2
    mean, peak = (
        dense(p, "mlp.2", dense(p, "mlp.0", z).clamp(min=0))
        for z in (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
    )
    x = x * (sigmoid(mean) + sigmoid(peak) if code else sigmoid(mean + peak))
    local = depthwise(p, "local", x)
    strips = [depthwise(p, f"strips.{i}.1", depthwise(p, f"strips.{i}.0", local)) for i in range(3)]
    x = x * dense(p, "mix", torch.stack([local, *strips]).sum(0))
    return dense(p, "mix", x) if code else x


def size(channels: int, hidden: int) -> int:
    strips = sum(2 * (k + 1) for k in (7, 11, 21))
    return channels**2 + channels + 2 * channels * hidden + hidden + channels + (26 + strips) * channels


ROWS = [
    Case("cpca", 16, size(16, 4), MAPS, cpca),
    Case("cpca", 3, size(3, 1), MAPS, cpca),  # fewer channels than the reduction
    Case("cpca", 10, size(10, 5), MAPS, lambda m, x: cpca(m, x, code=False), {"form": "paper", "reduction": 2}),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"form": "papers"}, "unknown form 'papers'; did you mean 'paper'"),
]
