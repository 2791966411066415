"""Efficient local attention: every row and every column of each channel weighed by its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap
from visattn.attention._reference import filled, translated
from visattn.ops import PooledGroupNorm
from visattn.types import UsageError, unknown

FORMS = ("shared", "separate")


@final
class ELA(AbstractGate):
    r"""Weigh rows and columns by a short convolution over the means along the other axis.

    ``g_h = sigmoid(norm(conv(mean_W(x))))``, ``g_w = sigmoid(norm(conv(mean_H(x))))`` with the same layers;
    ``y = x * g_h * g_w``. With ``form="separate"`` each axis has layers of its own, and a SiLU
    stands before the sigmoid.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``height`` (full): ``(N, C, H, 1)`` in ``(0, 1)``; map ``width`` (full): ``(N, C, 1, W)`` likewise.

    Cost:
        ``C kernel group_width + 2 C`` parameters, twice as many with ``separate``;
        ``C kernel group_width (H + W)`` multiply-adds, two statistics and two products over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        kernel: the odd length of the convolution (paper: 7 in ELA-B and ELA-L, 5 in ELA-T and ELA-S).
        group_width: how many channels the convolution mixes (paper: 1 in ELA-T and ELA-B, 8 in ELA-S and ELA-L).
        norm_groups: of the group norm (paper: 16, in ELA-T 32), at most: ``gcd(C, norm_groups)``
            are taken; ``None`` is 16, and 1 with ``separate``.
        form: ``shared`` as in the paper, or ``separate`` as in timm.

    Raises:
        UsageError: ``channels``, ``group_width`` or ``norm_groups`` is not positive, ``kernel`` is not odd and
            positive, ``group_width`` does not divide ``channels``, or ``form`` is unknown.

    Example:
        >>> import torch
        >>> ELA(64)(torch.zeros(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])

    References:
        Xu and Wan, "ELA: Efficient local attention for deep convolutional neural networks", 2024,
        https://arxiv.org/abs/2403.01123, section 3. No code of the authors is known but the paper's listing.
        timm's ``EfficientLocalAttn`` (Apache-2.0) is the form ``separate``.
        Differences: the norm's groups follow channels that 16 does not divide, and a group of
        one value is taken in training too (its norm is 0).
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {}

    def __init__(
        self,
        channels: int,
        *,
        kernel: int = 7,
        group_width: int = 1,
        norm_groups: int | None = None,
        form: Literal["shared", "separate"] = "shared",
    ) -> None:
        super().__init__(channels)
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        for name, value in {"group_width": group_width, "norm_groups": norm_groups}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if channels % group_width:
            raise UsageError(f"channels must be a multiple of {group_width} (group_width), got {channels}")
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        groups = gcd(channels, norm_groups or (16 if form == "shared" else 1))
        axes = range(1 if form == "shared" else 2)
        self.axes = nn.ModuleList(_Axis(channels, kernel, channels // group_width, groups) for _ in axes)
        self.act = nn.Identity() if form == "shared" else nn.SiLU()
        self.height = MapTap("full")
        self.width = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take timm's weights, or those of the paper's listing (``conv``, ``gn``)."""
        own = translated(
            state,
            {"conv_h": "axes.0.conv", "norm_h": "axes.0.norm", "conv_w": "axes.1.conv", "norm_w": "axes.1.norm"},
            {"conv": "axes.0.conv", "gn": "axes.0.norm"},
        )
        weight = own["axes.0.conv.weight"]
        form = "separate" if "axes.1.conv.weight" in own else "shared"
        shape = {"kernel": weight[0, 0].numel(), "group_width": weight.shape[1], "form": form}
        return filled(cls(len(weight), **{**shape, **keywords}), own)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate of the rows ``(N, C, H, 1)`` and that of the columns ``(N, C, 1, W)``."""
        rows, columns = self.axes[0](x.mean(dim=3)), self.axes[-1](x.mean(dim=2))
        return (
            self.height(self.act(rows).sigmoid().unsqueeze(3)),
            self.width(self.act(columns).sigmoid().unsqueeze(2)),
        )


class _Axis(nn.Module):
    """The layers of an axis, or of both: ``(N, C, L)`` to the same."""

    def __init__(self, channels: int, kernel: int, groups: int, norm_groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = PooledGroupNorm(norm_groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))
