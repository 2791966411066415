"""Rows of ``gc``."""

from __future__ import annotations

from cases import Case, dense, values
from torch import Tensor, nn


def gc(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    weights = dense(p, "score", x).exp()
    weights = weights / weights.sum((2, 3), keepdim=True)
    z = dense(p, "squeeze", (x * weights).sum((2, 3), keepdim=True))
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    z = z * p["norm.weight"] + p["norm.bias"]
    return x + dense(p, "excite", z.clamp(min=0))


ROWS = [
    Case("gc", 64, 2 * 64 * 4 + 2 * 64 + 3 * 4, {"spatial": "spatial"}, gc),
    Case("gc", 20, 2 * 20 * 5 + 2 * 20 + 3 * 5, {"spatial": "spatial"}, gc, {"reduction": 4}),
]

REFUSED = [
    ({"reduction": -1}, "reduction must be at least 1, got -1"),
]
