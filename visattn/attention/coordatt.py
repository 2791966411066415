"""Coordinate attention: every row and every column of each channel weighed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import EXPANDED, AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import UsageError


@final
class CoordAtt(AbstractGate):
    r"""Weigh rows and columns from the means along the other axis, through a shared layer.

    ``[f_h, f_w] = hswish(norm(conv([mean_W(x), mean_H(x)])))``, joined along the positions;
    ``g_h = sigmoid(conv_h(f_h))``, ``g_w = sigmoid(conv_w(f_w))``; ``y = x * g_h * g_w``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``height`` (full): ``(N, C, H, 1)`` in ``(0, 1)``; map ``width`` (full): ``(N, C, 1, W)`` likewise.

    Cost:
        ``3 C h + 2 C + 3 h`` parameters for ``h = max(8, C // reduction)`` hidden channels;
        ``3 C h (H + W)`` multiply-adds, two statistics and two products over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels of the shared layer (paper: 32); at least 8 remain.
        hidden: ``h`` itself, for weights whose width no reduction gives (timm rounds to multiples of 8).

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive.

    Example:
        >>> import torch
        >>> CoordAtt(64)(torch.zeros(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])

    References:
        Hou et al., "Coordinate Attention", CVPR 2021, https://arxiv.org/abs/2103.02907, section 3.2.
        Code: houqb/CoordAttention (MIT): convolutions with biases, a batch norm and an h-swish, at
        least 8 hidden channels. timm's block has no biases and another width unless told.
        Differences: plain means stand for adaptive pooling, which ONNX cannot export.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {
        "mobilenet": Place(EXPANDED, "authors' mbv2_ca.py: after the depth-wise convolution, where it expands")
    }

    def __init__(self, channels: int, *, reduction: int = 32, hidden: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        hidden = hidden or max(8, channels // reduction)
        self.shared = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)  # sees H + W >= 2 positions, so a single sample is enough
        self.act = nn.Hardswish()
        self.height_conv = nn.Conv2d(hidden, channels, 1)
        self.width_conv = nn.Conv2d(hidden, channels, 1)
        self.height = MapTap("full")
        self.width = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``coordatt.py`` or ``mbv2_ca.py``, or timm's."""
        own = translated(
            state,
            {"conv1": "shared", "bn1": "norm", "conv_h": "height_conv", "conv_w": "width_conv"},
            {"conv1": "shared", "bn1": "norm", "conv2": "height_conv", "conv3": "width_conv"},
        )
        hidden, channels = own["shared.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate of the rows ``(N, C, H, 1)`` and that of the columns ``(N, C, 1, W)``."""
        rows, columns = x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True)
        joined = torch.cat([rows, columns.transpose(2, 3)], dim=2)  # (N, C, H + W, 1)
        hidden = self.act(self.norm(self.shared(joined)))
        height = self.height_conv(hidden[:, :, : x.shape[2]]).sigmoid()
        width = self.width_conv(hidden[:, :, x.shape[2] :].transpose(2, 3)).sigmoid()
        return self.height(height), self.width(width)
