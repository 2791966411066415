"""Global response normalisation: channels gain or lose by their share of the whole map's response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap
from visattn.attention._reference import filled, translated
from visattn.ops import widen

EPS = 1e-6


@final
class GRN(AbstractTransform):
    r"""Scale each channel by its norm relative to the mean norm of all channels, and add the input.

    ``n_c = ||x_c||_2 / (mean_C(||x||_2) + 1e-6)`` over positions; ``y = gamma * (x * n) + beta + x``, where
    ``gamma`` and ``beta`` start at 0, so that ``y`` starts as ``x``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)``, ``n``: at least 0, with a mean of 1 over channels.

    Cost:
        ``2 C`` parameters, without weight decay; one statistic (in fp32) and one multiply-add over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.

    Raises:
        UsageError: ``channels`` is not positive.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(GRN(64)(x), x)
        True

    References:
        Woo et al., "ConvNeXt V2", CVPR 2023, https://arxiv.org/abs/2301.00808, algorithm 1.
        Code: facebookresearch/ConvNeXt-V2 (MIT), ``GRN``; timm's ``GlobalResponseNorm`` (Apache-2.0) is the same.
        Differences: channels come first; ``x`` is multiplied once, by ``1 + gamma * n``; the norm is taken in fp32.
        The paper puts it between the layers of a ConvNeXt's perceptron, whose tensors are channels-last and hence
        no place here, but for hosts with ``conv_mlp``: ``at="stages.*.blocks.*.mlp.act"``.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {}
    undecayed: ClassVar = ("strength", "gamma", "beta")

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.channel = MapTap("channel", upper=None)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights (``gamma``, ``beta``) or timm's (``weight``, ``bias``)."""
        own = translated(state, {"gamma": "gamma", "beta": "beta"}, {"weight": "gamma", "bias": "beta"})
        return filled(cls(own["gamma"].numel(), **keywords), own)

    def start_as_identity(self) -> None:
        """Set both parameters to 0, as the paper does: a strength in front of them would get no gradient."""
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` scaled by ``1 + gamma * n`` and moved by ``beta``."""
        norm = torch.linalg.vector_norm(widen(x), dim=(2, 3), keepdim=True)
        share = self.channel(norm / (norm.mean(dim=1, keepdim=True) + EPS))  # (N, C, 1, 1)
        return x * (1 + self.gamma * share).type_as(x) + self.beta.type_as(x)
