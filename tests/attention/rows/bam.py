"""Rows of ``bam``."""

from __future__ import annotations

import torch.nn.functional as F
from cases import Case, batch_norm, dense, sigmoid, values
from torch import Tensor, nn


def bam(module: nn.Module, x: Tensor, dilation: int = 4, add: bool = False) -> Tensor:
    p = values(module)
    channel = batch_norm(module, p, "mlp.1", dense(p, "mlp.0", x.mean((2, 3), keepdim=True)))
    channel = dense(p, "mlp.3", channel.clamp(min=0))
    spatial = batch_norm(module, p, "conv.1", dense(p, "conv.0", x)).clamp(min=0)
    for i in (3, 6):
        z = F.conv2d(spatial, p[f"conv.{i}.weight"], p[f"conv.{i}.bias"], padding=dilation, dilation=dilation)
        spatial = batch_norm(module, p, f"conv.{i + 1}", z).clamp(min=0)
    spatial = dense(p, "conv.9", spatial)
    if add:
        both = batch_norm(module, p, "mlp.4", channel) + batch_norm(module, p, "conv.10", spatial)
    else:
        both = channel * spatial
    return x + x * sigmoid(both)


ROWS = [
    Case("bam", 32, 3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1, {"full": "full"}, bam),
    Case(
        "bam",
        32,
        3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1 + 2 * 32 + 2,
        {"full": "full"},
        lambda m, x: bam(m, x, add=True),
        {"combine": "add"},
    ),
    Case(
        "bam",
        6,
        3 * 6 * 3 + 6 + 18 * 9 + 13 * 3 + 1,
        {"full": "full"},
        lambda m, x: bam(m, x, dilation=2),
        {"reduction": 2, "dilation": 2},
    ),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"dilation": 0}, "dilation must be at least 1, got 0"),
    ({"combine": "sum"}, "unknown combine 'sum'; .*valid: mul, add"),
]
