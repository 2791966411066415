"""Additive attention: a pooling head that weighs positions by a small network's scores."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from visattn.attention._contract import AbstractPool, MapTap
from visattn.ops import widen
from visattn.types import UsageError

LOWEST = -1e38  # a finite score whose weight is exactly 0 beside any other: -inf everywhere would give NaN


@final
class Additive(AbstractPool):
    r"""Pool a map to its context, the mean of its positions under learnt weights.

    ``alpha_i = softmax_i(u^T tanh(W x_i + b))``; ``c = sum_i alpha_i x_i``. With ``top_k`` the
    ``k`` largest weights are kept, scaled to sum to 1. With ``heads`` each has its own ``u`` and
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

    Raises:
        UsageError: ``channels``, ``hidden``, ``heads`` or ``top_k`` is not positive, ``heads`` does
            not divide ``channels``, or a mask is not boolean of shape ``(N, H, W)``.

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
        of the channels, there every head pools all of them.
        Its ``strength`` is for the site to use: only the host knows the pooling that it replaces.
    """

    family: ClassVar = "pool"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, hidden: int = 128, heads: int = 1, top_k: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"hidden": hidden, "heads": heads, "top_k": top_k}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if channels % heads:
            divisors = ", ".join(str(i) for i in range(1, channels + 1) if channels % i == 0)
            raise UsageError(f"heads must divide the {channels} channels, got {heads}; valid: {divisors}")
        self.heads = heads
        self.top_k = top_k
        self.project = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, heads, 1, bias=False)
        self.pool = MapTap("pool", softmax=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the context ``(N, C)`` of ``x``; positions where ``mask`` is False get no weight."""
        scores = widen(self.score(self.project(x).tanh()))  # (N, heads, H, W)
        kept = _checked(mask, x).flatten(1).unsqueeze(1) if mask is not None else None
        weights = self.pool(self._weights(scores.flatten(2), kept).view_as(scores))
        sizes = (x.shape[0], self.heads, self.channels // self.heads, x.shape[2] * x.shape[3])
        parts = x.flatten(2).view(sizes)  # (N, heads, C / heads, H W)
        context = parts @ weights.flatten(2).unsqueeze(-1).type_as(x)
        return context.flatten(1).type_as(x)

    def _weights(self, scores: Tensor, kept: Tensor | None) -> Tensor:
        """Return softmax weights over the last axis of ``scores`` ``(N, heads, H W)``, 0 where not kept."""
        if kept is not None:
            scores = scores.masked_fill(~kept, LOWEST)
        if self.top_k is not None:
            count = torch.sym_min(self.top_k, scores.shape[2])  # min() would break FX tracing
            best = scores.topk(count, dim=2).indices  # by index: a tie at the edge still leaves exactly k
            chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(2, best, True)
            scores = scores.masked_fill(~chosen, LOWEST)
        weights = scores.softmax(dim=2)
        # a sample without any position kept has equal scores, hence weights, everywhere
        return weights if kept is None else weights * kept


def _checked(mask: Tensor, x: Tensor) -> Tensor:
    if isinstance(mask, Proxy):
        return mask
    if mask.dtype != torch.bool or mask.shape != (x.shape[0], *x.shape[2:]):
        wanted = (x.shape[0], *x.shape[2:])
        raise UsageError(f"mask must be bool of shape {wanted}, got {mask.dtype} of shape {tuple(mask.shape)}")
    return mask
