"""Gated channel transformation: channels compete or help each other by the norms of their maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final, get_args

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import unknown

Mode = Literal["l2", "l1"]
EPS = 1e-5


@final
class GCT(AbstractGate):
    r"""Weigh each channel by its norm relative to that of all channels.

    ``s_c = alpha_c sqrt(sum_HW(x_c^2) + eps)``; ``n_c = s_c / sqrt(mean_C(s^2) + eps)``;
    ``y_c = x_c * (1 + tanh(gamma_c n_c + beta_c))``, where ``gamma`` and ``beta`` start at 0, so all gates at 1.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``[0, 2]``.

    Cost:
        ``3 C`` parameters; one statistic (in fp32) and one product over ``x``. Weight decay spares ``beta``.

    Args:
        channels: ``C``, the channels of the features attended to.
        mode: the norm: ``l2`` as above (paper), or ``l1``: ``s_c = alpha_c sum_HW(|x_c|)`` and
            ``n_c = s_c / (mean_C(|s|) + eps)``.

    Raises:
        UsageError: ``channels`` is not positive, or ``mode`` is neither word.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(GCT(64)(x), x)
        True

    References:
        Yang et al., "Gated channel transformation", CVPR 2020, https://arxiv.org/abs/1909.11519, section 3.
        Code: z-x-yang/GCT has no licence at its root; this file is written from the equations and compared
        with recorded outputs of it. Differences: ``eps`` (1e-5) is added to the mean of ``s^2``, the paper
        adds it to the sum; the statistics are taken in fp32; the stem, whose input is the image, and the
        shortcuts' convolutions get no block at the paper's place.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {
        "resnet": Place(r"before:re:(.*\.)?layer\d\.\d+\.conv\d", "authors' README: before every convolution")
    }
    undecayed: ClassVar = ("strength", "beta")

    def __init__(self, channels: int, *, mode: Mode = "l2") -> None:
        super().__init__(channels)
        if mode not in get_args(Mode):
            raise unknown("mode", mode, get_args(Mode))
        self.mode = mode
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.channel = MapTap("channel", upper=2.0)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights (``alpha``, ``gamma``, ``beta``); no weight tells the ``mode``."""
        own = translated(state, {"alpha": "alpha", "gamma": "gamma", "beta": "beta"})
        return filled(cls(own["alpha"].numel(), **keywords), own)

    def start_as_identity(self) -> None:
        """Set the gates to 1, as the paper does: a strength in front of them would get no gradient."""
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        x = widen(x)
        if self.mode == "l2":
            size = self.alpha * (x.square().sum(dim=(2, 3), keepdim=True) + EPS).sqrt()
            level = (size.square().mean(dim=1, keepdim=True) + EPS).sqrt()  # (N, 1, 1, 1)
        else:
            size = self.alpha * x.abs().sum(dim=(2, 3), keepdim=True)
            level = size.abs().mean(dim=1, keepdim=True) + EPS
        return (self.channel(1 + (self.gamma * size / level + self.beta).tanh()),)
