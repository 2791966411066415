"""Efficient channel attention: each channel weighed from the means of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import INVERTED, AbstractGate, MapTap, Place
from visattn.attention._reference import filled, needed, translated
from visattn.types import UsageError


@final
class ECA(AbstractGate):
    r"""Weigh each channel by a 1-D convolution over its neighbouring channels.

    ``y = x * sigmoid(conv1d(mean_HW(x)))``, a kernel of 3 for 64 channels and of 5 for 512.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``kernel`` parameters, no bias; one global mean and ``C * kernel`` multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features attended to.
        kernel: the odd length of the convolution; ``None`` lets the channels set it.
        gamma: divides the logarithm that sets the length (paper: 2).
        offset: is added to that logarithm before the division (paper: 1).

    Raises:
        UsageError: ``channels`` or ``gamma`` is not positive, or ``kernel`` is not odd and positive.

    Example:
        >>> import torch
        >>> block = ECA(64)
        >>> block(torch.zeros(2, 64, 7, 7)).shape, block.mix.kernel_size
        (torch.Size([2, 64, 7, 7]), (3,))

    References:
        Wang et al., "ECA-Net", CVPR 2020, https://arxiv.org/abs/1910.03151, section 3.2.
        Code: BangguWu/ECANet (MIT) takes the length as an argument, set by hand for each stage: its ImageNet
        weights of ResNet-50 have 3, 5, 5, 7 where the formula gives 5, 5, 5, 7 for the 256 to 2048 channels
        that the block sees, those of ResNet-18 have 3, 5, 7, 7 where it gives 3, 5, 5, 5. ``from_reference`` takes
        the length from the weights; pass ``kernel`` to build one. timm (Apache-2.0) has a length of 3 at
        least, the formula gives 1 below 8 channels.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {
        "resnet": Place("residual", "authors' models/eca_resnet.py: after the last norm"),
        "mobilenet": Place(INVERTED, "authors' models/eca_mobilenetv2.py: at the end of each inverted residual"),
    }

    def __init__(self, channels: int, *, kernel: int | None = None, gamma: float = 2.0, offset: float = 1.0) -> None:
        super().__init__(channels)
        if not gamma > 0:
            raise UsageError(f"gamma must be greater than 0, got {gamma}")
        if kernel is None:
            length = int(abs((math.log2(channels) + offset) / gamma))
            kernel = length if length % 2 else length + 1
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the authors' or timm's weights (``conv``); ``channels`` must be given."""
        own = translated(state, {"conv": "mix"})
        return filled(cls(needed(channels), kernel=own["mix.weight"].shape[-1], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        mean = x.mean(dim=(2, 3)).unsqueeze(1)  # (N, 1, C)
        gate = self.mix(mean).sigmoid().transpose(1, 2).unsqueeze(-1)  # (N, C, 1, 1)
        return (self.channel(gate),)
