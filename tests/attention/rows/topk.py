"""Rows of ``topk``."""

from __future__ import annotations

from functools import partial

from cases import Case, values
from rows.additive import pooled
from torch import Tensor, nn


def topk(module: nn.Module, x: Tensor, mask: Tensor | None = None, k: float = 0.5) -> Tensor:
    w = values(module)["score.weight"].flatten(1)
    return pooled(lambda points: w @ points, x, mask, len(w), k)


ROWS = [
    Case("topk", 12, 12, {"pool": "pool"}, topk),
    Case("topk", 12, 12 * 4, {"pool": "pool"}, partial(topk, k=3), {"k": 3, "heads": 4}),
    Case("topk", 12, 12 * 2, {"pool": "pool"}, partial(topk, k=0.6), {"k": 0.6, "heads": 2}),
]

REFUSED = [
    ({"k": 0}, r"k must be an int of at least 1 or a share in \(0, 1\], got 0"),
    ({"k": 1.5}, r"k must be an int of at least 1 or a share in \(0, 1\], got 1.5"),
    ({"k": float("nan")}, r"k must be an int of at least 1 or a share in \(0, 1\], got nan"),
    ({"heads": 3}, "heads must divide the 8 channels, got 3; valid: 1, 2, 4, 8"),
]
