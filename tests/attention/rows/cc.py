"""Rows of ``cc``."""

from __future__ import annotations

import torch
from cases import Case, dense, values
from torch import Tensor, nn


def cc(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    h, w = x.shape[2:]
    row, column = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    cross = (row[:, None] == row) | (column[:, None] == column)
    for _ in module.pairwise:
        query, key, value = (dense(p, name, x).flatten(2) for name in ("query", "key", "value"))
        dots = torch.einsum("nci,ncj->nij", query, key).masked_fill(~cross, -torch.inf)
        weights = (dots - dots.amax(2, keepdim=True)).exp()
        weights = weights / weights.sum(2, keepdim=True)
        x = x + p["gamma"] * torch.einsum("nij,ncj->nci", weights, value).view_as(x)
    return x


ROWS = [
    Case(
        "cc",
        16,
        16**2 + 16 + 2 * 16 * 2 + 2 + 1,
        {"pairwise.0": "pairwise", "pairwise.1": "pairwise"},
        cc,
    ),
    Case("cc", 5, 5**2 + 5 + 2 * 5 * 3 + 3 + 1, {"pairwise.0": "pairwise"}, cc, {"recurrence": 1, "inner": 3}),
]

REFUSED = [
    ({"recurrence": 0}, "recurrence must be at least 1, got 0"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"inner": 0}, "inner must be at least 1, got 0"),
]
