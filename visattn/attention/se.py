"""Squeeze-and-excitation: each channel weighed from all channel means."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.types import UsageError


@final
class SE(AbstractGate):
    r"""Weigh each channel by a two-layer perceptron on the channel means.

    ``y = x * sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2)`` with ``max(1, C // reduction)`` hidden units.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``2 C h + h + C`` parameters for ``h`` hidden units and as many multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the layers (paper: 16).

    Raises:
        UsageError: ``channels`` or ``reduction`` is not positive.

    Example:
        >>> import torch
        >>> SE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507, section 3.
        Code: hujie-frank/SENet (Caffe, Apache-2.0). As there, both layers have biases. Differences:
        the layers are 1x1 convolutions (same weights, one more pair of axes), and fewer than
        ``reduction`` channels keep one hidden unit.
    """

    paper: ClassVar = {"resnet": Place("residual", "section 3.3, figure 3: before the addition")}

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__(channels)
        if reduction < 1:
            raise UsageError(f"reduction must be at least 1, got {reduction}")
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.channel = MapTap("channel")

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        mean = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.excite(self.relu(self.squeeze(mean))).sigmoid()
        return (self.channel(gate),)
