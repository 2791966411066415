"""Double attention: features are gathered into a few summaries, and every position takes its mix of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError


@final
class A2(AbstractTransform):
    r"""Gather features under learnt maps, then hand each position a mix of what was gathered.

    ``G_k = sum_i softmax_i(gather_k(x))_i feature(x_i)`` for ``k = 1 ... n``;
    ``y_i = x_i + out(sum_k softmax_k(distribute(x_i))_k G_k)``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``gathered`` (pool, softmax): ``(N, n, H, W)``, each of the ``n`` sums to 1 over positions.
        - map ``distributed`` (pool): ``(N, n, H, W)`` in ``(0, 1)``, which sums to 1 over the ``n`` at each position.

    Cost:
        ``2 C (m + n) + C + m + n`` parameters for ``m`` features and ``n`` maps, both ``max(2, C // reduction)``;
        ``2 (C (m + n) + m n) HW`` multiply-adds a sample: linear in the positions.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels for both ``m`` and ``n`` (paper: 4).
        features: ``m`` itself, the channels that are gathered.
        maps: ``n`` itself, the summaries.

    Raises:
        UsageError: ``channels``, ``reduction``, ``features`` or ``maps`` is not positive, or ``maps`` is 1.

    Example:
        >>> import torch
        >>> A2(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Chen et al., "A^2-Nets: Double attention networks", NeurIPS 2018, https://arxiv.org/abs/1810.11579, section 3.
        The authors published no code. ``gather`` has no bias, which the softmax would cancel; one map alone would be 1
        everywhere, so there are two at least; softmaxes are taken in fp32. Of ports, changzy00/pytorch-attention has
        this form without ``x +``; xmu-xiaoma666/External-Attention-pytorch leaves the softmaxes' axis to torch,
        which takes the batch: its samples see each other.
    """

    family: ClassVar = "global"
    paper: ClassVar = {
        "resnet": Place(r"re:(.*\.)?(layer2\.[13]|layer3\.[135])", "section 4: five blocks in Res3 and Res4")
    }

    def __init__(
        self, channels: int, *, reduction: int = 4, features: int | None = None, maps: int | None = None
    ) -> None:
        super().__init__(channels)
        for name, value, least in (("reduction", reduction, 1), ("features", features, 1), ("maps", maps, 2)):
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        width = max(2, channels // reduction)
        features, maps = features or width, maps or width
        self.feature = nn.Conv2d(channels, features, 1)
        self.gather = nn.Conv2d(channels, maps, 1, bias=False)
        self.distribute = nn.Conv2d(channels, maps, 1)
        self.out = nn.Conv2d(features, channels, 1)
        self.gathered = MapTap("pool", softmax=True)
        self.distributed = MapTap("pool")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of ports, ``convA``, ``convB``, ``convV`` and ``conv_reconstruct`` or ``proj``.

        Their outputs are not ours: see the class.
        """
        names = {"convA": "feature", "convB.weight": "gather.weight", "convB.bias": "", "convV": "distribute"}
        own = translated(state, names | {"conv_reconstruct": "out"}, names | {"proj": "out"})
        features, channels = own["feature.weight"].shape[:2]
        return filled(cls(channels, features=features, maps=len(own["gather.weight"]), **keywords), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` with each position's mix of the summaries added."""
        scores = widen(self.gather(x))  # (N, n, H, W)
        gathered = self.gathered(scores.flatten(2).softmax(dim=2).view_as(scores))
        distributed = self.distributed(widen(self.distribute(x)).softmax(dim=1))
        feature = self.feature(x)
        summaries = feature.flatten(2) @ gathered.flatten(2).transpose(1, 2).type_as(feature)  # (N, m, n)
        mixed = summaries @ distributed.flatten(2).type_as(summaries)  # (N, m, HW)
        return x + self.out(mixed.reshape(x.shape[0], -1, x.shape[2], x.shape[3]))
