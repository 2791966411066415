"""Top-k pooling: a pooling head that looks at a few positions and at nothing else."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractPool, MapTap
from visattn.attention._pooling import check_heads, context, weigh
from visattn.types import UsageError


@final
class TopK(AbstractPool):
    r"""Pool a map to the weighed mean of the positions that score highest, and of no other.

    ``s_i = w^T x_i``; ``alpha = softmax`` of the ``k`` largest ``s``, exactly 0 elsewhere;
    ``c = sum_i alpha_i x_i``. With ``heads`` each has its own ``w`` and selection, and pools its own
    ``C / heads`` channels. Scores that tie at the edge leave exactly ``k`` too. The gradient reaches
    ``w`` and the features through the kept positions alone.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - input ``mask``: ``None`` or ``(N, H, W)`` of bool; where it is False the weight is 0. A
          sample whose mask is False everywhere pools to zeros, and so does its map.
        - output: ``(N, C)`` in the dtype of ``x``.
        - map ``pool`` (softmax): ``(N, heads, H, W)``, which sums to 1 over positions.

    Cost:
        ``C heads`` parameters; ``(C heads + C) H W`` multiply-adds a sample and a selection from ``H W``
        scores a head.

    Args:
        channels: ``C``, the channels of the features pooled.
        k: how many positions keep a weight: a count (int), all of them if there are fewer, or a share in
            (0, 1] of the positions that the mask allows (float), rounded up. ``1`` is one position,
            ``1.0`` is all of them. A single kept position has the weight 1 whatever its score, so that
            ``w`` learns nothing.
        heads: how many groups of channels are weighed apart; must divide ``channels``.

    Raises:
        UsageError: ``channels``, ``k`` or ``heads`` is not positive, a share is above 1, ``heads`` does
            not divide ``channels``, or a mask is not boolean of shape ``(N, H, W)``.

    Example:
        >>> import torch
        >>> TopK(64, k=5)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64])

    References:
        Zhao et al., "Explicit sparse transformer", 2019, https://arxiv.org/abs/1912.11637, section 3:
        a softmax over the ``k`` largest scores. Differences: it pools a map, with a learnt ``w`` in
        place of queries, so it is this project's form and has no weights of others. ``w`` has no
        bias, which the softmax would cancel.
        Its ``strength`` is for the site to use: only the host knows the pooling that it replaces.
    """

    family: ClassVar = "pool"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, k: int | float = 0.5, heads: int = 1) -> None:
        super().__init__(channels)
        if not (0 < k <= 1 if isinstance(k, float) else k >= 1):
            raise UsageError(f"k must be an int of at least 1 or a share in (0, 1], got {k}")
        check_heads(channels, heads)
        self.k = k
        self.heads = heads
        self.score = nn.Conv2d(channels, heads, 1, bias=False)
        self.pool = MapTap("pool", softmax=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the context ``(N, C)`` of ``x``; positions where ``mask`` is False get no weight."""
        return context(x, self.pool(weigh(self.score(x), mask, self.k)))
