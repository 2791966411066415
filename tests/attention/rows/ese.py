"""Rows of ``ese``."""

from __future__ import annotations

import torch
from cases import Case, Live, dense, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn


def _score(module: nn.Module, x: Tensor) -> Tensor:
    return dense(values(module), "excite", x.sum((2, 3), keepdim=True) / x[0, 0].numel())


def hard(module: nn.Module, x: Tensor) -> Tensor:
    z = _score(module, x)
    return x * torch.where(z > 3, 1, torch.where(z < -3, 0, z / 6 + 0.5))


def soft(module: nn.Module, x: Tensor) -> Tensor:
    return x * sigmoid(_score(module, x))


ROWS = [
    Case("ese", 32, 32 * 32 + 32, {"channel": "channel"}, hard),
    Case("ese", 5, 5 * 5 + 5, {"channel": "channel"}, soft, {"gate": "sigmoid"}),
]

REFUSED = [
    ({"gate": "hrad"}, "unknown gate 'hrad'; did you mean 'hard'"),
]

LIVE = [
    Live("ese", "timm", lambda: create_attn("ese", 24), 24),
    Live("ese", "timm-sigmoid", lambda: create_attn("ese", 24, gate_layer="sigmoid"), 24, {"gate": "sigmoid"}),
]
