"""Spatial group-wise enhance: each group of channels weighs its positions by their likeness to its mean."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, needed, translated
from visattn.ops import widen
from visattn.types import UsageError

EPS = 1e-5


@final
class SGE(AbstractGate):
    r"""Split the channels into groups, and weigh each group's positions by their product with its mean.

    For each group ``k`` of channels: ``c_i = mean_HW(x_k)^T x_ki``;
    ``y_ki = x_ki * sigmoid(w_k (c_i - mean(c)) / (std(c) + 1e-5) + b_k)``, where ``w`` starts at 0 and ``b`` at 1.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(0, 1)``, the same for all channels of a group.

    Cost:
        ``2 G`` parameters for ``G = gcd(C, groups)`` groups; ``C H W`` multiply-adds, a mean over ``x`` and one
        gate as large as ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        groups: the groups wanted (paper: 64); their greatest common divisor with ``channels`` is taken.

    Raises:
        UsageError: ``channels`` or ``groups`` is not positive.

    Example:
        >>> import torch
        >>> SGE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Li et al., "Spatial group-wise enhance", 2019, https://arxiv.org/abs/1905.09646, section 3.
        The authors' code (implus/PytorchInsight) has no licence and was not read: this is written from the
        equations and loads its weights. As there, the deviation is the unbiased one (the paper's divides
        by ``H W``, which ``w`` makes up for) and the small constant is added to it, not to the variance.
        Differences: ``groups`` adapts to any ``channels``; a map of one value has a deviation of 0, not
        NaN; the statistics are taken in fp32.
    """

    family: ClassVar = "spatial"
    paper: ClassVar = {"resnet": Place("residual", "experiments: after the last batch norm of each bottleneck")}

    def __init__(self, channels: int, *, groups: int = 64) -> None:
        super().__init__(channels)
        if groups < 1:
            raise UsageError(f"groups must be at least 1, got {groups}")
        self.groups = gcd(channels, groups)
        # of one axis, as a norm's, so that weight decay leaves them alone
        self.weight = nn.Parameter(torch.zeros(self.groups))
        self.bias = nn.Parameter(torch.ones(self.groups))
        self.full = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the weights of the authors' block; ``channels`` must be given."""
        own = translated(state, {"weight": "weight", "bias": "bias"})
        return filled(cls(needed(channels), groups=own["weight"].numel(), **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every value ``(N, C, H, W)``."""
        parts = widen(x).reshape(x.shape[0], self.groups, -1, x.shape[2], x.shape[3])  # (N, G, C / G, H, W)
        likeness = (parts * parts.mean(dim=(3, 4), keepdim=True)).sum(2)  # (N, G, H, W)
        centred = likeness - likeness.mean(dim=(2, 3), keepdim=True)
        # counted as a tensor: max() of sizes would break FX tracing, and torch 2.6 cannot compile sym_max
        count = torch.ones_like(likeness[:1, :1]).sum(dim=(2, 3), keepdim=True)
        # std() has a gradient of 0 at 0, where sqrt() has none; of one value it must not be the unbiased one
        deviation = likeness.std(dim=(2, 3), keepdim=True, correction=0) * (count / (count - 1).clamp_min(1)).sqrt()
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        gate = (weight * centred / (deviation + EPS) + bias).sigmoid()
        return (self.full(gate.repeat_interleave(self.channels // self.groups, dim=1)),)
