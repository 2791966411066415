"""Rows of ``grn``."""

from __future__ import annotations

import torch
from cases import Case, Live, values
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn


def grn(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    norm = torch.einsum("nchw,nchw->nc", x, x) ** 0.5
    share = norm / (norm.sum(1, keepdim=True) / x.shape[1] + 1e-6)
    return p["gamma"] * (x * share[:, :, None, None]) + p["beta"] + x


ROWS = [
    Case("grn", 16, 2 * 16, {"channel": "channel"}, grn),
    Case("grn", 5, 2 * 5, {"channel": "channel"}, grn),
]

LIVE = [
    Live("grn", "timm", lambda: GlobalResponseNorm(12, channels_last=False), 12),
]
