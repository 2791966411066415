"""Rows of ``srm``."""

from __future__ import annotations

import torch
from cases import Case, batch_norm, sigmoid, values
from torch import Tensor, nn


def srm(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    flat = x.flatten(2)
    mean = flat.mean(2)
    square = flat.var(2) if flat.shape[2] > 1 else torch.zeros_like(mean)
    z = p["cfc"][:, 0] * mean + p["cfc"][:, 1] * (square + 1e-5).sqrt()
    return x * sigmoid(batch_norm(module, p, "norm", z[:, :, None, None]))


ROWS = [
    Case("srm", 16, 4 * 16, {"channel": "channel"}, srm),
    Case("srm", 5, 4 * 5, {"channel": "channel"}, srm),
]
