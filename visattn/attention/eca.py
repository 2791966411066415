"""Efficient channel attention: each channel weighed from the means of its neighbours."""

from __future__ import annotations

import math
from typing import ClassVar, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
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
        Code: BangguWu/ECANet (MIT) takes the length as an argument, and its ImageNet weights use
        3, 5, 5, 7 for the stages of ResNet-50 where the paper's formula gives 3, 5, 5, 5: pass
        ``kernel`` to load them.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {"resnet": Place("residual", "authors' models/eca_resnet.py: after the last norm")}

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

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        mean = x.mean(dim=(2, 3)).unsqueeze(1)  # (N, 1, C)
        gate = self.mix(mean).sigmoid().transpose(1, 2).unsqueeze(-1)  # (N, C, 1, 1)
        return (self.channel(gate),)
