"""Additive attention: a pooling head that weighs positions by a small network's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractPool, MapTap
from visattn.attention._pooling import check_heads, context, weigh
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError


@final
class Additive(AbstractPool):
    r"""Pool a map to its context, the mean of its positions under learnt weights.

    ``alpha_i = softmax_i(u^T tanh(W x_i + b) / temperature)``; ``c = sum_i alpha_i x_i``. With ``top_k``
    the ``k`` largest weights are kept, scaled to sum to 1. With ``heads`` each has its own ``u`` and
    pools its own ``C / heads`` channels.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - input ``mask``: ``None`` or ``(N, H, W)`` of bool; where it is False the weight is 0. A
          sample whose mask is False everywhere pools to zeros, and so does its map.
        - output: ``(N, C)`` in the dtype of ``x``.
        - map ``pool`` (softmax): ``(N, heads, H, W)``, which sums to 1 over positions.

    Cost:
        ``C hidden + hidden + hidden heads`` parameters; ``(C hidden + hidden heads + C) H W``
        multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features pooled.
        hidden: the rows of ``W`` (Ilse et al.: 128).
        heads: how many groups of channels are weighed apart; must divide ``channels``.
        top_k: how many positions keep a weight, all of them if there are fewer; ``None`` keeps all.
        temperature: divides the scores: below 1 the weights sharpen, above 1 they even out (paper: 1).

    Raises:
        UsageError: ``channels``, ``hidden``, ``heads``, ``top_k`` or ``temperature`` is not positive,
            ``heads`` does not divide ``channels``, or a mask is not boolean of shape ``(N, H, W)``.

    Example:
        >>> import torch
        >>> Additive(64, heads=4, top_k=5)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64])

    References:
        Bahdanau et al., "Neural machine translation by jointly learning to align and translate",
        ICLR 2015, https://arxiv.org/abs/1409.0473, section 3.1 and appendix A.1.2, without the
        decoder's state; Ilse et al., "Attention-based deep multiple instance learning", ICML 2018,
        https://arxiv.org/abs/1802.04712, equations 7, 8. Selection as in Zhao et al., "Explicit
        sparse transformer", 2019, https://arxiv.org/abs/1912.11637.
        Code: AMLab-Amsterdam/AttentionDeepMIL (MIT), ``Attention``. Differences: ``u`` has no bias,
        which the softmax would cancel; ``W`` and ``u`` are 1x1 convolutions; a head pools its share
        of the channels, there every head pools all of them. Neither has a temperature.
        Its ``strength`` is for the site to use: only the host knows the pooling that it replaces.
    """

    family: ClassVar = "pool"
    paper: ClassVar = {}

    def __init__(
        self, channels: int, *, hidden: int = 128, heads: int = 1, top_k: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__(channels)
        for name, value in {"hidden": hidden, "top_k": top_k}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if not temperature > 0:
            raise UsageError(f"temperature must be positive, got {temperature}")
        check_heads(channels, heads)
        self.heads = heads
        self.top_k = top_k
        self.temperature = temperature
        self.project = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, heads, 1, bias=False)
        self.pool = MapTap("pool", softmax=True)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of ``Attention`` in AttentionDeepMIL (``attention.0``, ``attention.2``)."""
        own = translated(state, {"attention.0": "project", "attention.2": "score", "attention.2.bias": ""})
        hidden, channels = own["project.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, heads=len(own["score.weight"]), **keywords), own)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the context ``(N, C)`` of ``x``; positions where ``mask`` is False get no weight."""
        scores = widen(self.score(self.project(x).tanh())) / self.temperature  # (N, heads, H, W)
        return context(x, self.pool(weigh(scores, mask, self.top_k)))
