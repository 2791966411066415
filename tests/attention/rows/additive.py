"""Rows of ``additive``, and how the heads that pool by weights are worked out: sample by sample, head by head."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import torch
from cases import Case, values
from torch import Tensor, nn


def pooled(score: Callable[[Tensor], Tensor], x: Tensor, mask: Tensor | None, heads: int, keep: float | None) -> Tensor:
    """Look only at the positions that count; ``score`` maps points ``(C, positions)`` to ``(heads, positions)``."""
    contexts = []
    for i, sample in enumerate(x.flatten(2)):
        points = sample if mask is None else sample[:, mask[i].flatten()]
        count = points.shape[1]
        kept = math.ceil(Fraction(str(keep)) * count) if isinstance(keep, float) else min(keep or count, count)
        for own, scores in zip(points.chunk(heads), score(points), strict=True):
            best = scores.argsort(descending=True)[:kept]
            alpha = scores[best].exp() / scores[best].exp().sum()
            contexts.append(own[:, best] @ alpha)
    return torch.cat(contexts).view(len(x), -1)


def additive(
    module: nn.Module, x: Tensor, mask: Tensor | None = None, top_k: int | None = None, temperature: float = 1
) -> Tensor:
    p = values(module)
    w, b, u = p["project.weight"].flatten(1), p["project.bias"], p["score.weight"].flatten(1)
    return pooled(lambda points: u @ torch.tanh(w @ points + b[:, None]) / temperature, x, mask, len(u), top_k)


ROWS = [
    Case("additive", 12, 12 * 128 + 128 + 128, {"pool": "pool"}, additive),
    Case(
        "additive",
        12,
        12 * 8 + 8 + 8 * 3,
        {"pool": "pool"},
        partial(additive, top_k=4, temperature=0.5),
        {"hidden": 8, "heads": 3, "top_k": 4, "temperature": 0.5},
    ),
]

REFUSED = [
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"heads": 0}, "heads must be at least 1, got 0"),
    ({"top_k": 0}, "top_k must be at least 1, got 0"),
    ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
]
