"""Gated attention: a pooling head whose scores pass through a learnt gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractPool, MapTap
from visattn.attention._pooling import check_heads, context, weigh
from visattn.attention._reference import filled, translated
from visattn.types import UsageError


@final
class Gated(AbstractPool):
    r"""Pool a map to the mean of its positions under weights that a hyperbolic tangent and a gate give.

    ``alpha_i = softmax_i(w^T (tanh(V x_i + b) * sigmoid(U x_i + d)))``; ``c = sum_i alpha_i x_i``. With
    ``top_k`` the ``k`` largest weights are kept, scaled to sum to 1. With ``heads`` each has its own
    ``w`` and pools its own ``C / heads`` channels.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - input ``mask``: ``None`` or ``(N, H, W)`` of bool; where it is False the weight is 0. A
          sample whose mask is False everywhere pools to zeros, and so does its map.
        - output: ``(N, C)`` in the dtype of ``x``.
        - map ``pool`` (softmax): ``(N, heads, H, W)``, which sums to 1 over positions.

    Cost:
        ``2 (C hidden + hidden) + hidden heads`` parameters; ``(2 C hidden + hidden heads + C) H W``
        multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features pooled.
        hidden: the rows of ``V`` and of ``U`` (paper: 128).
        heads: how many groups of channels are weighed apart; must divide ``channels`` (paper: 1).
        top_k: how many positions keep a weight, all of them if there are fewer; ``None`` keeps all.

    Raises:
        UsageError: ``channels``, ``hidden``, ``heads`` or ``top_k`` is not positive, ``heads`` does
            not divide ``channels``, or a mask is not boolean of shape ``(N, H, W)``.

    Example:
        >>> import torch
        >>> Gated(64, heads=4)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64])

    References:
        Ilse et al., "Attention-based deep multiple instance learning", ICML 2018,
        https://arxiv.org/abs/1802.04712, equation 9, there without ``b`` and ``d``.
        Code: AMLab-Amsterdam/AttentionDeepMIL (MIT), ``GatedAttention``, with them. Differences: ``w``
        has no bias, which the softmax would cancel; the layers are 1x1 convolutions; a head pools its
        share of the channels, there every head pools all of them; neither selects.
        Its ``strength`` is for the site to use: only the host knows the pooling that it replaces.
    """

    family: ClassVar = "pool"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, hidden: int = 128, heads: int = 1, top_k: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"hidden": hidden, "top_k": top_k}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        check_heads(channels, heads)
        self.heads = heads
        self.top_k = top_k
        self.project = nn.Conv2d(channels, hidden, 1)
        self.gate = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, heads, 1, bias=False)
        self.pool = MapTap("pool", softmax=True)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of ``GatedAttention`` in AttentionDeepMIL, whose last layer has had two names."""
        layers = {"attention_V.0": "project", "attention_U.0": "gate"}
        last = [{name: "score", f"{name}.bias": ""} for name in ("attention_w", "attention_weights")]
        own = translated(state, *(layers | names for names in last))
        hidden, channels = own["project.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, heads=len(own["score.weight"]), **keywords), own)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the context ``(N, C)`` of ``x``; positions where ``mask`` is False get no weight."""
        scores = self.score(self.project(x).tanh() * self.gate(x).sigmoid())  # (N, heads, H, W)
        return context(x, self.pool(weigh(scores, mask, self.top_k)))
