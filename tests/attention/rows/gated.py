"""Rows of ``gated``."""

from __future__ import annotations

from functools import partial

import torch
from cases import Case, sigmoid, values
from rows.additive import pooled
from torch import Tensor, nn


def gated(module: nn.Module, x: Tensor, mask: Tensor | None = None, top_k: int | None = None) -> Tensor:
    p = values(module)
    v, u, w = (p[f"{layer}.weight"].flatten(1) for layer in ("project", "gate", "score"))
    b, d = p["project.bias"][:, None], p["gate.bias"][:, None]
    return pooled(lambda points: w @ (torch.tanh(v @ points + b) * sigmoid(u @ points + d)), x, mask, len(w), top_k)


ROWS = [
    Case("gated", 12, 2 * (12 * 128 + 128) + 128, {"pool": "pool"}, gated),
    Case(
        "gated",
        12,
        2 * (12 * 8 + 8) + 8 * 2,
        {"pool": "pool"},
        partial(gated, top_k=5),
        {"hidden": 8, "heads": 2, "top_k": 5},
    ),
]

REFUSED = [
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"heads": 3}, "heads must divide the 8 channels, got 3; valid: 1, 2, 4, 8"),
    ({"top_k": -1}, "top_k must be at least 1, got -1"),
]
