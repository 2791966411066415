"""Rows of ``additive``."""

from __future__ import annotations

import torch
from cases import Case, values
from torch import Tensor, nn


def additive(
    module: nn.Module, x: Tensor, mask: Tensor | None = None, heads: int = 1, top_k: int | None = None
) -> Tensor:
    """Work head by head and sample by sample, on the positions that count alone."""
    p = values(module)
    w, b, u = p["project.weight"].flatten(1), p["project.bias"], p["score.weight"].flatten(1)
    pooled = []
    for i, sample in enumerate(x.flatten(2)):
        points = sample if mask is None else sample[:, mask[i].flatten()]  # (C, positions)
        contexts = []
        for head, own in enumerate(points.chunk(heads)):
            if not points.shape[1]:
                contexts.append(own.new_zeros(len(own)))
                continue
            scores = u[head] @ torch.tanh(w @ points + b[:, None])
            best = scores.argsort(descending=True)[: top_k or len(scores)]
            alpha = scores[best].exp() / scores[best].exp().sum()
            contexts.append(own[:, best] @ alpha)
        pooled.append(torch.cat(contexts))
    return torch.stack(pooled)


ROWS = [
    Case("additive", 12, 12 * 128 + 128 + 128, {"pool": "pool"}, additive),
    Case(
        "additive",
        12,
        12 * 8 + 8 + 8 * 3,
        {"pool": "pool"},
        lambda m, x, mask=None: additive(m, x, mask, heads=3, top_k=4),
        {"hidden": 8, "heads": 3, "top_k": 4},
    ),
]
