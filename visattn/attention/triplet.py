"""Triplet attention: three gates, each blind to one axis, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import INVERTED, AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, needed, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError


@final
class Triplet(AbstractTransform):
    r"""Average three copies of the features, weighed over channel and width, channel and height, and positions.

    ``y = x * (G(x over H) + G(x over W) + G(x over C)) / 3``, where each ``G`` is a gate
    ``sigmoid(norm(conv([max, mean])))`` over the two axes that its statistics leave.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - maps ``width`` (full): ``(N, C, 1, W)``; ``height`` (full): ``(N, C, H, 1)``; ``spatial``:
          ``(N, 1, H, W)``; all in ``(0, 1)``.

    Cost:
        ``6 kernel^2 + 6`` parameters; ``2 kernel^2 (C W + C H + H W)`` multiply-adds, six statistics over ``x``
        and one gate as large as it.

    Args:
        channels: ``C``, the channels of the features attended to.
        kernel: the odd side of the convolutions (paper: 7).
        branches: 3, or 2 to leave the gate over positions out (the authors' ``no_spatial``).

    Raises:
        UsageError: ``channels`` is not positive, ``kernel`` is not odd and positive, or ``branches`` is not 2 or 3.

    Example:
        >>> import torch
        >>> Triplet(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Misra et al., "Rotate to attend: convolutional triplet attention module", WACV 2021,
        https://arxiv.org/abs/2010.03045, section 3.
        Code: landskape-ai/triplet-attention (MIT), ``triplet_attention.py``: ``[max, mean]`` in this order, no
        ReLU, batch norms of momentum 0.01. Differences: the copies are weighed once, by the mean of
        the gates; ``kernel`` is free; the norms take single values in training; values that share a
        maximum share its gradient; every norm starts at 1 as in that file, while the authors' ResNet
        sets the spatial gate's to 0.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {
        "resnet": Place("residual", "authors' MODELS/resnet.py: before the addition"),
        "mobilenet": Place(INVERTED, "authors' MODELS/mobilenet.py: at the end of each inverted residual"),
    }

    def __init__(self, channels: int, *, kernel: int = 7, branches: int = 3) -> None:
        super().__init__(channels)
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        if branches not in (2, 3):
            raise UsageError(f"branches must be 2 or 3, got {branches}")
        self.cw = _Gate(kernel)
        self.hc = _Gate(kernel)
        self.hw = _Gate(kernel) if branches == 3 else None
        self.width = MapTap("full")
        self.height = MapTap("full")
        if branches == 3:
            self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the weights of the authors' block under its new or old names; ``channels`` must be given."""
        new, old = {}, {}
        for ours, theirs in {"cw": "ChannelGateH", "hc": "ChannelGateW", "hw": "SpatialGate"}.items():
            for layer, name in {"conv": "conv", "norm": "bn"}.items():
                new[f"{ours}.conv.{name}"] = old[f"{theirs}.spatial.{name}"] = f"{ours}.{layer}"
        own = translated(state, new, old)
        read = {"kernel": own["cw.conv.weight"].shape[-1], "branches": 3 if "hw.conv.weight" in own else 2}
        return filled(cls(needed(channels), **read, **keywords), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` times the mean of its gates."""
        width = self.width(self.cw(x.transpose(1, 2)).transpose(1, 2))  # (N, C, 1, W)
        height = self.height(self.hc(x.transpose(1, 3)).transpose(1, 3))  # (N, C, H, 1)
        if self.hw is None:
            return x * ((width + height) / 2)
        return x * ((width + height + self.spatial(self.hw(x))) / 3)


class _Gate(nn.Module):
    """A gate over the last two axes, from the maximum and mean over the second."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = PooledBatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        gate: Tensor = self.norm(self.conv(pooled)).sigmoid()
        return gate
