"""Rows of ``gct``."""

from __future__ import annotations

import torch
from cases import Case, values
from torch import Tensor, nn


def _gated(p: dict[str, Tensor], x: Tensor, share: Tensor) -> Tensor:
    z = p["gamma"] * share[:, :, None, None] + p["beta"]
    return x * (2 - 2 / ((2 * z).exp() + 1))  # tanh(z) = 1 - 2 / (exp(2 z) + 1)


def l2(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    norm = p["alpha"].flatten() * (torch.einsum("nchw,nchw->nc", x, x) + 1e-5) ** 0.5
    level = (norm**2).sum(1, keepdim=True) / x.shape[1] + 1e-5
    return _gated(p, x, norm / level**0.5)


def l1(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    norm = p["alpha"].flatten() * torch.where(x > 0, x, -x).sum((2, 3))
    level = norm.abs().sum(1, keepdim=True) / x.shape[1] + 1e-5
    return _gated(p, x, norm / level)


ROWS = [
    Case("gct", 16, 3 * 16, {"channel": "channel"}, l2),
    Case("gct", 5, 3 * 5, {"channel": "channel"}, l1, {"mode": "l1"}),
]

REFUSED = [
    ({"mode": "l3"}, "unknown mode 'l3'; valid: l2, l1"),
]
