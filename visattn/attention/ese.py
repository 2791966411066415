"""Effective squeeze-and-excitation: each channel weighed from all channel means by one layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final, get_args

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import unknown

Gate = Literal["hard", "sigmoid"]


@final
class ESE(AbstractGate):
    r"""Weigh each channel by one full layer on the channel means, without a bottleneck.

    ``y = x * s(W mean_HW(x) + b)`` with the hard sigmoid ``s(z) = min(max(z + 3, 0), 6) / 6``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``[0, 1]``.

    Cost:
        ``C^2 + C`` parameters, and as many multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features attended to.
        gate: ``hard`` for the piecewise linear ``s`` (authors' code and weights), ``sigmoid`` as the
            paper writes.

    Raises:
        UsageError: ``channels`` is not positive, or ``gate`` is neither word.

    Example:
        >>> import torch
        >>> ESE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Lee and Park, "CenterMask", CVPR 2020, https://arxiv.org/abs/1911.06667, section 3.3.
        Code: youngwanLEE/centermask2 is for non-commercial use alone; this file is written from the
        paper and compared with timm's ``EffectiveSEModule`` (Apache-2.0). The paper adds the block to
        the last features of a VoVNet module, which no family of hosts here has. Differences: none.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {
        "vovnet": Place(r"re:stages\.\d+\.blocks\.\d+\.conv_concat", "section 3, VoVNetV2: behind each aggregation")
    }

    def __init__(self, channels: int, *, gate: Gate = "hard") -> None:
        super().__init__(channels)
        if gate not in get_args(Gate):
            raise unknown("gate", gate, get_args(Gate))
        self.excite = nn.Conv2d(channels, channels, 1)
        self.hard = gate == "hard"
        self.relu6 = nn.ReLU6()
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of timm, of the authors or of mmdet (``fc``)."""
        own = translated(state, {"fc": "excite"})
        return filled(cls(own["excite.weight"].shape[0], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        score = self.excite(x.mean(dim=(2, 3), keepdim=True))
        # nn.Hardsigmoid divides its gradient by 6 in fp32, whatever the dtype
        gate = self.relu6(score + 3) / 6 if self.hard else score.sigmoid()
        return (self.channel(gate),)
