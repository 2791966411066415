"""What pooling heads share: weights over positions, the selection of the largest, and the context they give."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Proxy

from visattn.ops import widen
from visattn.types import UsageError

LOWEST = -1e38  # a finite score whose weight is exactly 0 beside any other: -inf everywhere would give NaN
MILLION = 10**6


def check_heads(channels: int, heads: int) -> None:
    """Refuse ``heads`` that do not divide ``channels``.

    Raises:
        UsageError: they do not.
    """
    if heads < 1:
        raise UsageError(f"heads must be at least 1, got {heads}")
    if channels % heads:
        divisors = ", ".join(str(i) for i in range(1, channels + 1) if channels % i == 0)
        raise UsageError(f"heads must divide the {channels} channels, got {heads}; valid: {divisors}")


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``scores`` ``(N, heads, H, W)``, widened, at their lowest where ``mask`` ``(N, H, W)`` is False.

    Raises:
        UsageError: the mask is not boolean of this shape.
    """
    scores = widen(scores)
    if mask is None:
        return scores
    if not isinstance(mask, Proxy):
        wanted = (scores.shape[0], *scores.shape[2:])
        if mask.dtype != torch.bool or mask.shape != wanted:
            raise UsageError(f"mask must be bool of shape {wanted}, got {mask.dtype} of shape {tuple(mask.shape)}")
    return scores.masked_fill(~mask.unsqueeze(1), LOWEST)


def weigh(scores: Tensor, mask: Tensor | None, keep: float | None = None) -> Tensor:
    """Return softmax weights over the positions of ``scores``, 0 where ``mask`` is False.

    Args:
        scores: ``(N, heads, H, W)``.
        mask: ``(N, H, W)`` of bool, or ``None``.
        keep: how many of the largest keep a weight: a count (int), a share of the positions that the
            mask allows (float), or all (``None``).

    Example:
        >>> weigh(torch.tensor([[[[0.0, 2.0, 0.0, 2.0]]]]), None, 0.5).flatten().tolist()
        [0.0, 0.5, 0.0, 0.5]
    """
    flat = masked(scores, mask).flatten(2)
    allowed = None if mask is None else mask.flatten(1).unsqueeze(1)  # (N, 1, HW)
    if keep is not None:
        flat = flat.masked_fill(~_largest(flat, allowed, keep), LOWEST)
    weights = flat.softmax(dim=2)
    if allowed is not None:
        # a sample without any position allowed has equal scores, hence weights, everywhere
        weights = weights * allowed
    return weights.view_as(scores)


def context(x: Tensor, weights: Tensor) -> Tensor:
    """Return the weighed sum of ``x`` ``(N, C, H, W)`` over positions, ``(N, C)``: a head weighs its share of ``C``."""
    parts = x.flatten(2).view(x.shape[0], weights.shape[1], -1, x.shape[2] * x.shape[3])  # (N, heads, C / heads, HW)
    return (parts @ weights.flatten(2).unsqueeze(-1).type_as(x)).flatten(1).type_as(x)


def _largest(flat: Tensor, allowed: Tensor | None, keep: float) -> Tensor:
    """Return where the largest of the last axis are; by index, so that a tie at the edge leaves as many as asked."""
    if not isinstance(keep, float):
        # as many low scores are added, so that there are always enough: a min() of sizes would break FX tracing
        longer = F.pad(flat, (0, keep), value=LOWEST)
        best = longer.topk(keep, dim=2).indices
        return torch.zeros_like(longer, dtype=torch.bool).scatter(2, best, True)[:, :, : flat.shape[2]]
    best = flat.topk(_share(keep, flat.shape[2]), dim=2).indices
    count = _share(keep, flat.shape[2] if allowed is None else allowed.sum(dim=2, keepdim=True))
    within = torch.ones_like(best).cumsum(dim=2) <= count
    return torch.zeros_like(flat, dtype=torch.bool).scatter(2, best, within)


def _share(keep: float, positions: Any) -> Any:
    # rounded up in whole numbers: 0.1 of 30 is 3 and not 4, and no size is read while a graph is traced
    return (positions * max(1, round(keep * MILLION)) + MILLION - 1) // MILLION
