"""Squeeze-and-excitation: each channel weighed from all channel means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import UsageError


@final
class SE(AbstractGate):
    r"""Weigh each channel by a two-layer perceptron on the channel means.

    ``y = x * sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2)`` with ``h`` hidden units.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``2 C h + h + C`` parameters for ``h = max(1, C // reduction)``, and as many multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives (timm rounds to multiples of 8).

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive.

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

    family: ClassVar = "channel"
    paper: ClassVar = {"resnet": Place("residual", "section 3.3, figure 3: before the addition")}

    def __init__(self, channels: int, *, reduction: int = 16, hidden: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        hidden = hidden or max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of torchvision's or timm's block, or of ports of the authors' (``fc.0``, ``fc.2``)."""
        own = translated(
            state,
            {"fc1": "squeeze", "fc2": "excite"},
            {"fc.0": "squeeze", "fc.2": "excite"},
            {"conv_reduce": "squeeze", "conv_expand": "excite"},
        )
        hidden, channels = own["squeeze.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        mean = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.excite(self.relu(self.squeeze(mean))).sigmoid()
        return (self.channel(gate),)
