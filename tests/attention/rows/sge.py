"""Rows of ``sge``."""

from __future__ import annotations

from math import gcd

import torch
from cases import Case, sigmoid, values
from torch import Tensor, nn


def sge(module: nn.Module, x: Tensor, groups: int = 64) -> Tensor:
    p = values(module)
    groups = gcd(groups, x.shape[1])
    parts = []
    for k, part in enumerate(x.chunk(groups, dim=1)):
        anchor = part.mean(dim=(2, 3))
        likeness = torch.einsum("nchw,nc->nhw", part, anchor)
        centred = likeness - likeness.mean(dim=(1, 2), keepdim=True)
        count = centred[0].numel()
        if count > 1:
            deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / (count - 1)).sqrt()
            centred = centred / (deviation + 1e-5)
        parts.append(part * sigmoid(p["weight"][k] * centred + p["bias"][k])[:, None])
    return torch.cat(parts, dim=1)


ROWS = [
    Case("sge", 20, 2 * 4, {"full": "full"}, sge),
    Case("sge", 7, 2, {"full": "full"}, sge),  # one group
    Case("sge", 12, 2 * 6, {"full": "full"}, lambda m, x: sge(m, x, groups=6), {"groups": 6}),
]

REFUSED = [
    ({"groups": 0}, "groups must be at least 1, got 0"),
]
