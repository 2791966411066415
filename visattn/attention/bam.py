"""Bottleneck attention: channels and positions weighed together, between the stages of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError, unknown

COMBINE = ("mul", "add")

OURS = ("mlp.0", "mlp.1", "mlp.3", "conv.0", "conv.1", "conv.3", "conv.4", "conv.6", "conv.7", "conv.9")
AUTHORS = (
    *(f"channel_att.gate_c.gate_c_{name}" for name in ("fc_0", "bn_1", "fc_final")),
    *(f"spatial_att.gate_s.gate_s_{name}" for name in ("conv_reduce0", "bn_reduce0", "conv_di_0", "bn_di_0")),
    *(f"spatial_att.gate_s.gate_s_{name}" for name in ("conv_di_1", "bn_di_1", "conv_final")),
)
PYTORCHCV = (
    *(f"ch_att.{name}" for name in ("init_fc.fc", "init_fc.bn", "final_fc")),
    *(f"sp_att.{name}" for name in ("init_conv.conv", "init_conv.bn", "dil_convs.conv1.conv", "dil_convs.conv1.bn")),
    *(f"sp_att.{name}" for name in ("dil_convs.conv2.conv", "dil_convs.conv2.bn", "final_conv")),
)


@final
class BAM(AbstractGate):
    r"""Weigh every value from a channel branch and a dilated spatial branch; no gate falls below 1.

    ``Mc = W2 relu(norm(W1 mean_HW(x)))``; ``Ms = conv1x1(d(d(relu(norm(conv1x1(x))))))`` with
    ``d(z) = relu(norm(conv3x3(z)))``, dilated; ``y = x * (1 + sigmoid(Mc * Ms))``.
    With ``combine="add"``: ``y = x * (1 + sigmoid(norm(Mc) + norm(Ms)))``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(1, 2)``.

    Cost:
        ``3 C h + C + 18 h^2 + 13 h + 1`` parameters for ``h = max(1, C // reduction)`` hidden channels
        (``2 C + 2`` more with ``add``); ``(C h + 18 h^2 + h) H W`` multiply-adds, and one gate as large as ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels of the hidden layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives.
        dilation: of the two 3x3 convolutions (paper: 4).
        combine: ``mul`` as in the authors' code and weights, or ``add`` as in the paper.

    Raises:
        UsageError: ``channels``, ``reduction``, ``hidden`` or ``dilation`` is not positive, or ``combine`` is unknown.

    Example:
        >>> import torch
        >>> BAM(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Park et al., "BAM", BMVC 2018, https://arxiv.org/abs/1807.06514, section 3.
        Code: Jongchan/attention-module (MIT), ``MODELS/bam.py``, which multiplies the branches; the
        paper adds them, each behind a final batch norm: ``combine`` offers both.
        Differences: the perceptron is made of 1x1 convolutions (same weights, one more pair of
        axes), the mean takes maps that are not square, the norms take single values, and fewer
        than ``reduction`` channels keep one hidden unit.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {
        "resnet": Place("stages", "figure 1 and authors' model_resnet.py: after stages 1 to 3", stages=(1, 2, 3))
    }

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        dilation: int = 4,
        combine: Literal["mul", "add"] = "mul",
    ) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden, "dilation": dilation}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if combine not in COMBINE:
            raise unknown("combine", combine, COMBINE)
        self.combine = combine
        hidden = hidden or max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), PooledBatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )
        self.conv = nn.Sequential(nn.Conv2d(channels, hidden, 1), PooledBatchNorm2d(hidden), nn.ReLU())
        for _ in range(2):
            dilated = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
            self.conv.extend([dilated, PooledBatchNorm2d(hidden), nn.ReLU()])
        self.conv.append(nn.Conv2d(hidden, 1, 1))
        if combine == "add":
            self.mlp.append(PooledBatchNorm2d(channels))
            self.conv.append(PooledBatchNorm2d(1))
        self.full = MapTap("full", upper=2.0)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' block or of pytorchcv's."""
        own = translated(state, *(dict(zip(names, OURS, strict=True)) for names in (AUTHORS, PYTORCHCV)))
        hidden, channels = own["mlp.0.weight"].shape
        return filled(cls(channels, hidden=hidden, **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every value ``(N, C, H, W)``."""
        channel, spatial = self.mlp(x.mean(dim=(2, 3), keepdim=True)), self.conv(x)  # (N, C, 1, 1), (N, 1, H, W)
        both = channel * spatial if self.combine == "mul" else channel + spatial
        return (self.full(1 + both.sigmoid()),)
