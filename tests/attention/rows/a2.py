"""Rows of ``a2``."""

from __future__ import annotations

import torch
from cases import Case, Live, dense, values
from torch import Tensor, nn
from torch.nn import functional as F


def a2(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    gathered, distributed = dense(p, "gather", x).exp(), dense(p, "distribute", x).exp()
    gathered = gathered / gathered.sum((2, 3), keepdim=True)
    distributed = distributed / distributed.sum(1, keepdim=True)
    mixed = 0
    for k in range(gathered.shape[1]):  # one summary at a time
        summary = (dense(p, "feature", x) * gathered[:, k : k + 1]).sum((2, 3), keepdim=True)
        mixed = mixed + summary * distributed[:, k : k + 1]
    return x + dense(p, "out", mixed)


class Port(nn.Module):
    """The form and the names of changzy00/pytorch-attention, with the ``x +`` that it leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.convA, self.convB, self.convV = nn.Conv2d(12, 5, 1), nn.Conv2d(12, 3, 1), nn.Conv2d(12, 3, 1)
        self.proj = nn.Conv2d(5, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.convB(x).flatten(2), dim=-1)
        summaries = torch.einsum("nmp,nkp->nmk", self.convA(x).flatten(2), weights)
        return x + self.proj(torch.einsum("nmk,nkhw->nmhw", summaries, F.softmax(self.convV(x), dim=1)))


MAPS = {"gathered": "pool", "distributed": "pool"}
ROWS = [
    Case("a2", 16, 2 * 16 * (4 + 4) + 16 + 4 + 4, MAPS, a2),
    Case("a2", 9, 2 * 9 * (4 + 3) + 9 + 4 + 3, MAPS, a2, {"features": 4, "maps": 3}),
    Case("a2", 5, 2 * 5 * (2 + 2) + 5 + 2 + 2, MAPS, a2),  # fewer channels than two maps ask for
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"features": 0}, "features must be at least 1, got 0"),
    ({"maps": 1}, "maps must be at least 2, got 1"),
]

LIVE = [Live("a2", "port", Port, 12)]
