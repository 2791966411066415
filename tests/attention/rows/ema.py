"""Rows of ``ema``."""

from __future__ import annotations

from math import gcd

import torch
import torch.nn.functional as F
from cases import Case, dense, sigmoid, values
from torch import Tensor, nn


def ema(module: nn.Module, x: Tensor, factor: int = 32) -> Tensor:
    p = values(module)
    parts = []
    for u in x.chunk(gcd(x.shape[1], factor), dim=1):
        h, w = (sigmoid(dense(p, "coordinate", u.mean(axis, keepdim=True))) for axis in (3, 2))
        a = u * h * w
        a = (a - a.mean((2, 3), keepdim=True)) / (a.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        a = a * p["norm.weight"][:, None, None] + p["norm.bias"][:, None, None]
        b = F.conv2d(u, p["local.weight"], p["local.bias"], padding=1)
        scores = 0
        for one, other in ((a, b), (b, a)):
            weights = one.mean((2, 3)).exp()
            weights = weights / weights.sum(1, keepdim=True)
            scores = scores + torch.einsum("nc,nchw->nhw", weights, other)[:, None]
        parts.append(u * sigmoid(scores))
    return torch.cat(parts, dim=1)


ROWS = [
    Case("ema", 64, 10 * 2**2 + 4 * 2, {"full": "full"}, ema),
    Case("ema", 32, 10 + 4, {"full": "full"}, ema),  # a channel a group: both softmaxes are 1
    Case("ema", 5, 10 * 5**2 + 4 * 5, {"full": "full"}, ema),  # one group
    Case("ema", 12, 10 * 3**2 + 4 * 3, {"full": "full"}, lambda m, x: ema(m, x, factor=8), {"factor": 8}),
]

REFUSED = [
    ({"factor": 0}, "factor must be at least 1, got 0"),
]
