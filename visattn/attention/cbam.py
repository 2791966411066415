"""Convolutional block attention: a channel gate, then a spatial gate on what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError

OURS = ("mlp.0", "mlp.2", "conv", "norm")
THEIRS = (
    ("ChannelGate.mlp.1", "ChannelGate.mlp.3", "SpatialGate.spatial.conv", "SpatialGate.spatial.bn"),
    ("channel.fc1", "channel.fc2", "spatial.conv.conv", "spatial.conv.bn"),
    ("ch_gate.mlp.fc1", "ch_gate.mlp.fc2", "sp_gate.conv.conv", "sp_gate.conv.bn"),
)


@final
class CBAM(AbstractGate):
    r"""Weigh channels, then positions, each from mean and maximum.

    ``Mc = sigmoid(mlp(mean_HW(x)) + mlp(max_HW(x)))``;
    ``Ms = sigmoid(norm(conv([max_C(x * Mc), mean_C(x * Mc)])))``; ``y = x * Mc * Ms``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``; map ``spatial``: ``(N, 1, H, W)`` in ``(0, 1)``.

    Cost:
        ``2 C h + h + C`` parameters of the perceptron with ``h = max(1, C // reduction)`` hidden
        units, ``2 kernel^2 + 2`` of the spatial gate; two statistics and two products over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the perceptron's layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives.
        kernel: the odd side of the spatial convolution (paper: 7).

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive, or ``kernel`` is not odd and positive.

    Example:
        >>> import torch
        >>> CBAM(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Woo et al., "CBAM", ECCV 2018, https://arxiv.org/abs/1807.06521, section 3.
        Code: Jongchan/attention-module (MIT): a perceptron with biases, ``[max, mean]`` in this
        order, a batch norm of momentum 0.01 whose weight starts at 0 (so ``Ms`` starts at 1/2).
        Differences: the perceptron is made of 1x1 convolutions (same weights, one more pair of
        axes), fewer than ``reduction`` channels keep one hidden unit, the norm takes single values in
        training, and values that share a maximum share its gradient.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {"resnet": Place("residual", "section 4.1, figure 3: before the addition")}

    def __init__(self, channels: int, *, reduction: int = 16, hidden: int | None = None, kernel: int = 7) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        hidden = hidden or max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = PooledBatchNorm2d(1, momentum=0.01)
        nn.init.zeros_(self.norm.weight)
        self.channel = MapTap("channel")
        self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' block, timm's ``cbam`` or pytorchcv's."""
        own = translated(state, *(dict(zip(names, OURS, strict=True)) for names in THEIRS))
        if "spatial.conv.conv.weight" in state:
            own["conv.weight"] = own["conv.weight"].flip(1)  # timm joins [mean, max]
        hidden, channels = own["mlp.0.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, kernel=own["conv.weight"].shape[-1], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channel gate ``(N, C, 1, 1)`` and the spatial gate ``(N, 1, H, W)``."""
        mean, peak = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        channel = (self.mlp(mean) + self.mlp(peak)).sigmoid()
        weighed = x * channel.to(x.dtype)
        pooled = torch.cat([weighed.amax(1, keepdim=True), weighed.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        spatial = self.norm(self.conv(pooled)).sigmoid()
        return self.channel(channel), self.spatial(spatial)
