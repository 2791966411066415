"""Efficient multi-scale attention: groups of channels weighed by position, from two branches that meet."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap
from visattn.attention._reference import filled, translated
from visattn.ops import PooledGroupNorm, widen
from visattn.types import UsageError

FACTOR = 32


@final
class EMA(AbstractGate):
    r"""Weigh the positions of each group of channels from a coordinate branch and a 3x3 branch.

    For a group ``u`` of ``c`` channels, all with the same layers: ``[h, w] = conv1x1([mean_W(u), mean_H(u)])``,
    ``a = norm(u * sigmoid(h) * sigmoid(w))``, ``b = conv3x3(u)``,
    ``g = sigmoid(sum_c(softmax_c(mean_HW(a)) * b + softmax_c(mean_HW(b)) * a))``; ``y = u * g``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(0, 1)``, equal within a group.

    Cost:
        ``10 c^2 + 4 c`` parameters for groups of ``c = C / gcd(C, factor)`` channels;
        ``(9 c + 2) C H W + C c (H + W)`` multiply-adds, and one gate as large as ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        factor: how many groups, at most (authors: 32): ``gcd(C, factor)`` are taken.

    Raises:
        UsageError: ``channels`` or ``factor`` is not positive.

    Example:
        >>> import torch
        >>> EMA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Ouyang et al., "Efficient multi-scale attention module with cross-spatial learning", ICASSP 2023,
        https://arxiv.org/abs/2305.13563, section 3.
        Code: YOLOonMe/EMA-attention-module has no licence; this file is written from the equations
        alone. Differences: the groups follow channels that ``factor`` does not divide, and a map of one
        position is taken in training too. The norm is over each channel's positions, so ``mean_HW(a)``
        is its bias whatever the input: it is read there instead of being computed.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, factor: int = FACTOR) -> None:
        super().__init__(channels)
        if factor < 1:
            raise UsageError(f"factor must be at least 1, got {factor}")
        self.groups = gcd(channels, factor)
        width = channels // self.groups
        self.coordinate = nn.Conv2d(width, width, 1)
        self.local = nn.Conv2d(width, width, 3, padding=1)
        self.norm = PooledGroupNorm(width, width)
        self.full = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the authors' weights; ``channels`` tells the groups, 32 without it."""
        own = translated(state, {"conv1x1": "coordinate", "conv3x3": "local", "gn": "norm"})
        width = len(own["norm.weight"])
        channels = channels or FACTOR * width
        return filled(cls(channels, factor=channels // width, **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every group, spread over its channels: ``(N, C, H, W)``."""
        u = torch.unflatten(x, 1, (self.groups, -1)).flatten(0, 1)  # (N groups, c, H, W)
        rows, columns = u.mean(dim=3, keepdim=True), u.mean(dim=2, keepdim=True)
        joined = self.coordinate(torch.cat([rows, columns.transpose(2, 3)], dim=2)).sigmoid()  # (N groups, c, H + W, 1)
        weighed = u * joined[:, :, : x.shape[2]] * joined[:, :, x.shape[2] :].transpose(2, 3)
        a = self.norm(weighed)
        b = self.local(u)
        of_a = widen(self.norm.bias).softmax(dim=0).view(-1, 1, 1)
        of_b = widen(b).mean(dim=(2, 3), keepdim=True).softmax(dim=1)
        gate = (of_a * b + of_b * a).sum(dim=1, keepdim=True).sigmoid()  # (N groups, 1, H, W)
        spread = torch.unflatten(gate.expand_as(u), 0, (-1, self.groups)).flatten(1, 2)
        return (self.full(spread),)
