"""Rows of ``attention_pool2d``."""

from __future__ import annotations

from functools import partial

import torch
from cases import Case, Live, values
from timm.layers import AttentionPool2d
from torch import Tensor, nn


def cubic(distance: float) -> float:
    """Return the kernel of bicubic resampling (a = -1/2)."""
    d = abs(distance)
    if d >= 2:
        return 0.0
    return 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2


def resampling(old: int, new: int) -> Tensor:
    """Return the matrix ``(new, old)`` that resamples a line, with a wider kernel where the line shrinks."""
    step = old / new
    rows = [[cubic((j + 0.5 - (i + 0.5) * step) / max(step, 1)) for j in range(old)] for i in range(new)]
    matrix = torch.tensor(rows, dtype=torch.float64)
    return matrix / matrix.sum(1, keepdim=True)


def attention_pool2d(module: nn.Module, x: Tensor, mask: Tensor | None = None, heads: int = 1) -> Tensor:
    """Make the tokens, keys and values that the block avoids, for the allowed positions alone."""
    p = values(module)
    side, (h, w) = round((len(p["position"]) - 1) ** 0.5), x.shape[2:]
    grid = p["position"][1:].view(side, side, -1)
    places = torch.einsum("yi,xj,ijc->yxc", resampling(side, h), resampling(side, w), grid).flatten(0, 1)
    pooled = []
    for i, sample in enumerate(x.flatten(2).transpose(1, 2)):
        points, own = (sample, places) if mask is None else (sample[mask[i].flatten()], places[mask[i].flatten()])
        tokens = torch.cat([points.mean(0, keepdim=True) + p["position"][:1], points + own])
        q = tokens[0] @ p["query.weight"].T + p["query.bias"]
        k, v = tokens @ p["key.weight"].T, tokens @ p["value.weight"].T + p["value.bias"]
        parts = zip(q.chunk(heads), k.chunk(heads, dim=1), v.chunk(heads, dim=1), strict=True)
        answers = [torch.softmax(b @ a / len(a) ** 0.5, dim=0) @ c for a, b, c in parts]
        pooled.append(torch.cat(answers) @ p["project.weight"].T + p["project.bias"])
    return torch.stack(pooled)


ROWS = [
    Case("attention_pool2d", 12, 4 * 12**2 + 3 * 12 + 50 * 12, {"pool": "pool"}, attention_pool2d),
    Case(
        "attention_pool2d",
        12,
        4 * 12**2 + 3 * 12 + 10 * 12,
        {"pool": "pool"},
        partial(attention_pool2d, heads=3),
        {"size": 3, "heads": 3},
    ),
]

REFUSED = [
    ({"size": 0}, "size must be at least 1, got 0"),
    ({"heads": 3}, "heads must divide the 8 channels, got 3; valid: 1, 2, 4, 8"),
]

LIVE = [
    Live("attention_pool2d", "timm", lambda: AttentionPool2d(64, num_heads=4), 64, {"heads": 4}),
    Live(
        "attention_pool2d",
        "timm-separate",
        lambda: AttentionPool2d(24, feat_size=4, num_heads=2, qkv_separate=True),
        24,
        {"heads": 2},
    ),
]
