"""Style-based recalibration: each channel weighed from its own mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d, widen

EPS = 1e-5


@final
class SRM(AbstractGate):
    r"""Weigh each channel by its style, the mean and the spread of its values, apart from all others.

    ``y_c = x_c * sigmoid(norm_c(u_c m_c + v_c s_c))`` with ``m_c = mean_HW(x_c)`` and
    ``s_c = sqrt(var_HW(x_c) + 1e-5)``; ``u`` and ``v`` start at 0, so all gates start at 1/2.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``4 C`` parameters; two statistics and one product over ``x``, the statistics in fp32.

    Args:
        channels: ``C``, the channels of the features attended to.

    Raises:
        UsageError: ``channels`` is not positive.

    Example:
        >>> import torch
        >>> SRM(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Lee et al., "SRM: A style-based recalibration module", ICCV 2019, https://arxiv.org/abs/1903.10829,
        section 3.
        Code: hyunjaelee410/style-based-recalibration-module has no licence; this file is written from the
        equations and compared with recorded outputs of it. As there, the variance is that of a sample
        (``HW - 1``; the paper divides by ``HW``). Differences: a map of one position has the variance 0
        (authors: 0 / 0), and one value a channel in training is normalised by the running statistics.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {"resnet": Place("residual", "the place of SE: on the residual branch, before the addition")}

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.cfc = nn.Parameter(torch.zeros(channels, 2))
        self.norm = PooledBatchNorm2d(channels)
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights (``cfc``, ``bn``)."""
        own = translated(state, {"cfc": "cfc", "bn": "norm"})
        return filled(cls(len(own["cfc"]), **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        x = widen(x)
        mean = x.mean(dim=(2, 3), keepdim=True)
        # counted as a tensor: max() of sizes would break FX tracing, and torch 2.6 cannot compile sym_max
        others = torch.ones_like(x[:1, :1]).sum(dim=(2, 3), keepdim=True) - 1
        variance = (x - mean).square().sum(dim=(2, 3), keepdim=True) / others.clamp_min(1)
        style = torch.cat([mean, (variance + EPS).sqrt()], dim=2)  # (N, C, 2, 1)
        score = (style * self.cfc.unsqueeze(-1)).sum(dim=2, keepdim=True)  # (N, C, 1, 1)
        return (self.channel(self.norm(score.type_as(self.cfc)).sigmoid()),)
