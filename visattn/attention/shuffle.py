"""Shuffle attention: half of each group's channels weighed by channel, half by position, then shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledGroupNorm
from visattn.types import UsageError

GROUPS = 64  # of the paper


@final
class Shuffle(AbstractTransform):
    r"""Weigh one half of each group by channel and the other by position; a shuffle mixes the halves.

    For the halves ``a, b`` of a group: ``ga = sigmoid(cweight * mean_HW(a) + cbias)``,
    ``gb = sigmoid(sweight * norm(b) + sbias)`` with a norm over each channel's positions.
    ``y = shuffle(x * g)``: of the joined groups the first and the second half of all channels alternate.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(0, 1)``, before the shuffle.

    Cost:
        ``3 C / groups`` parameters, the same for all groups; two statistics and a gate as large as ``x``,
        and one copy of it for the shuffle.

    Args:
        channels: ``C``, the channels of the features attended to; even.
        groups: share the parameters (paper: 64); ``None`` takes the largest divisor of ``C / 2`` up to 64.

    Raises:
        UsageError: ``channels`` or ``groups`` is not positive, or ``2 * groups`` does not divide ``channels``.

    Example:
        >>> import torch
        >>> Shuffle(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Zhang and Yang, "SA-Net: Shuffle attention for deep convolutional neural networks", ICASSP 2021,
        https://arxiv.org/abs/2102.00039, section 3.
        Code: wofmanaf/SA-Net has no licence; this file is written from the equations alone. Its names
        are kept, but for ``gn``. Differences: ``groups`` follows narrow channels, and a map of one
        position is taken in training too (its norm is 0).
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {"resnet": Place("residual", "section 3, SA-Net for deep CNNs: where SENet has its blocks")}

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__(channels)
        if groups is not None and groups < 1:
            raise UsageError(f"groups must be at least 1, got {groups}")
        if channels % 2:
            raise UsageError(f"channels must be even, got {channels}")
        half = channels // 2
        groups = groups or max(i for i in range(1, GROUPS + 1) if half % i == 0)
        if half % groups:
            raise UsageError(f"channels must be a multiple of {2 * groups} (2 * groups), got {channels}")
        self.groups = groups
        self.cweight = nn.Parameter(torch.zeros(1, half // groups, 1, 1))
        self.cbias = nn.Parameter(torch.ones(1, half // groups, 1, 1))
        self.sweight = nn.Parameter(torch.zeros(1, half // groups, 1, 1))
        self.sbias = nn.Parameter(torch.ones(1, half // groups, 1, 1))
        self.norm = PooledGroupNorm(half // groups, half // groups)
        self.full = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the authors' weights; ``channels`` tells the groups, 64 without it."""
        own = translated(state, {"gn": "norm", **{name: name for name in ("cweight", "cbias", "sweight", "sbias")}})
        half = own["cweight"].numel()
        channels = channels or 2 * GROUPS * half
        return filled(cls(channels, groups=channels // (2 * half), **keywords), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` weighed and shuffled."""
        a, b = torch.unflatten(x, 1, (self.groups, 2, -1)).unbind(2)  # (N, groups, C / 2 / groups, H, W) each
        channel = (self.cweight * a.mean(dim=(3, 4), keepdim=True) + self.cbias).sigmoid()
        normed = self.norm(b.flatten(0, 1))
        spatial = torch.unflatten((self.sweight * normed + self.sbias).sigmoid(), 0, (-1, self.groups))
        gate = self.full(torch.stack([channel.expand_as(spatial), spatial], dim=2).flatten(1, 3))  # (N, C, H, W)
        weighed = x * gate.to(x.dtype)
        shuffled = torch.unflatten(weighed, 1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return torch.empty_like(x).copy_(shuffled)  # in the memory format of x
