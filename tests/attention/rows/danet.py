"""Rows of ``danet``."""

from __future__ import annotations

import torch
from cases import Case, Live, dense, values
from torch import Tensor, nn


def danet(module: nn.Module, x: Tensor) -> Tensor:
    p, y = values(module), x
    if "position_gamma" in p:
        dots = torch.einsum("ncij,nckl->nijkl", dense(p, "query", x), dense(p, "key", x)).flatten(3)
        weights = (dots - dots.amax(3, keepdim=True)).exp()
        weights = (weights / weights.sum(3, keepdim=True)).unflatten(3, x.shape[2:])
        y = y + p["position_gamma"] * torch.einsum("nijkl,nckl->ncij", weights, dense(p, "value", x))
    if "channel_gamma" in p:
        energy = torch.einsum("naij,nbij->nab", x, x)
        weights = (energy.amin(2, keepdim=True) - energy).exp()
        weights = weights / weights.sum(2, keepdim=True)
        y = y + p["channel_gamma"] * torch.einsum("nab,nbij->naij", weights, x)
    return y


class Head(nn.Module):
    """Both parts under the names of the authors' head, without its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.sa, self.sc = nn.Module(), nn.Module()
        self.sa.query_conv, self.sa.key_conv, self.sa.value_conv = (nn.Conv2d(16, c, 1) for c in (2, 2, 16))
        self.sa.gamma, self.sc.gamma = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).flatten(2) for layer in (self.sa.query_conv, self.sa.key_conv, self.sa.value_conv)
        )
        positions = value @ (query.mT @ key).softmax(2).mT
        energy = x.flatten(2) @ x.flatten(2).mT
        channels = (energy.amax(2, keepdim=True) - energy).softmax(2) @ x.flatten(2)
        return x + (self.sa.gamma * positions + self.sc.gamma * channels).view_as(x)


BOTH = {"pairwise": "pairwise", "channel": "channel"}
ROWS = [
    Case("danet", 16, 16**2 + 16 + 2 * 16 * 2 + 2 + 2, BOTH, danet),
    Case("danet", 9, 9**2 + 9 + 2 * 9 * 3 + 3 + 1, {"pairwise": "pairwise"}, danet, {"parts": "position", "inner": 3}),
    Case("danet", 5, 1, {"channel": "channel"}, danet, {"parts": "channel"}),
    Case("danet", 5, 5**2 + 5 + 2 * 5 * 1 + 1 + 2, BOTH, danet, {"reduction": 7}),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"inner": 0}, "inner must be at least 1, got 0"),
    ({"parts": "chanel"}, "unknown parts 'chanel'; .* valid: both, position, channel"),
]

LIVE = [Live("danet", "head", Head, 16)]
