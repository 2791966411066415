"""CBAM's spatial gate alone: each position weighed from the maximum and mean of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, needed, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError


@final
class SpatialGate(AbstractGate):
    r"""Weigh each position by a convolution over the maps of its channels' maximum and mean.

    ``y = x * sigmoid(norm(conv([max_C(x), mean_C(x)])))``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``spatial``: ``(N, 1, H, W)`` in ``(0, 1)``.

    Cost:
        ``2 kernel^2 + 2`` parameters; ``2 kernel^2 H W`` multiply-adds, two statistics and one product over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        kernel: the odd side of the convolution (paper: 7).

    Raises:
        UsageError: ``channels`` is not positive, or ``kernel`` is not odd and positive.

    Example:
        >>> import torch
        >>> SpatialGate(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Woo et al., "CBAM", ECCV 2018, https://arxiv.org/abs/1807.06521, equation 3.
        Code: Jongchan/attention-module (MIT), ``SpatialGate``: ``[max, mean]`` in this order, a batch
        norm of momentum 0.01 whose weight starts at 0 (so the gate starts at 1/2).
        Differences: in the paper and there it stands behind a channel gate (``cbam`` is both); the norm
        takes single values in training; channels that share the maximum share its gradient.
    """

    family: ClassVar = "spatial"
    paper: ClassVar = {"resnet": Place("residual", "figure 3: before the addition, there behind a channel gate")}

    def __init__(self, channels: int, *, kernel: int = 7) -> None:
        super().__init__(channels)
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = PooledBatchNorm2d(1, momentum=0.01)
        nn.init.zeros_(self.norm.weight)
        self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the weights of the authors' ``SpatialGate`` or timm's ``SpatialAttn``; ``channels`` must be given."""
        own = translated(
            state,
            {"spatial.conv": "conv", "spatial.bn": "norm"},
            {"conv.conv": "conv", "conv.bn": "norm"},
        )
        if "conv.conv.weight" in state:
            own["conv.weight"] = own["conv.weight"].flip(1)  # timm joins [mean, max]
        return filled(cls(needed(channels), kernel=own["conv.weight"].shape[-1], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the spatial gate ``(N, 1, H, W)``."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        gate = self.norm(self.conv(pooled)).sigmoid()
        return (self.spatial(gate),)
