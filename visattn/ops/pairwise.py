"""Attention between positions: one fused step, or with its weights built where they are looked at."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from visattn.ops.widen import widen


class Tap(Protocol):
    """As much of a map's tap as counts here."""

    @property
    def watched(self) -> bool:
        """Whether anybody looks at what passes."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return ``x``."""


def attend_pairs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tap: Tap,
    *,
    scale: float = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Return ``softmax(query key^T * scale + bias) value``, each position's mean of values under its weights.

    If the tap is watched, the weights are built, in fp32 at least, and pass through it. If not, they are
    left to torch's fused attention, whose kernels keep nothing of size ``L M``. Which shapes a kernel takes
    depends on the device, the CPU's equal widths ``d = e`` without a bias that learns; for others torch
    builds the weights. Under ``torch.func``'s transforms they are built here.

    Shapes:
        - ``query``: ``(N, heads, L, d)``; ``key``: ``(N, heads, M, d)``; ``value``: ``(N, heads, M, e)``.
        - ``bias``: ``None`` or broadcastable to ``(N, heads, L, M)``.
        - output: ``(N, heads, L, e)`` in the dtype of ``value``.

    Args:
        query: what each position asks for.
        key: what each position is found by.
        value: what each position gives.
        tap: sees the weights ``(N, heads, L, M)``, which sum to 1 over ``M``.
        scale: multiplies the products of queries and keys.
        bias: is added to them.

    Example:
        >>> from visattn.attention._contract import MapTap
        >>> x = torch.eye(3).view(1, 1, 3, 3)
        >>> attend_pairs(x, x, x, MapTap("pairwise", softmax=True)).sum().item()
        3.0
    """
    if not (tap.watched or _transformed()):
        # the kernels want each position's numbers side by side
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        mask = None if bias is None else bias.type_as(query)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        return mixed.type_as(value)
    scores = wide_matmul(query, key.transpose(-2, -1)) * scale
    weights = tap((scores if bias is None else scores + bias).softmax(dim=-1))
    return wide_matmul(weights, value).type_as(value)


def wide_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` in fp32 at least, under autocast too.

    Example:
        >>> x = torch.full((1, 4), 200.0, dtype=torch.float16)
        >>> wide_matmul(x, x.T).item()
        160000.0
    """
    return _matmul(widen(a), widen(b))


@torch.fx.wrap
def _matmul(a: Tensor, b: Tensor) -> Tensor:
    kind = a.device.type
    if a.is_meta or not torch.is_autocast_enabled(kind):  # meta tensors know no autocast
        return a @ b
    with torch.autocast(kind, enabled=False):
        return a @ b


def narrow(x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` in the dtype of ``like``, with that dtype's largest number for what lies beyond.

    Example:
        >>> narrow(torch.tensor([1.0, -1e9]), torch.zeros(1, dtype=torch.float16)).tolist()
        [1.0, -65504.0]
    """
    return _narrow(x, like)


@torch.fx.wrap
def _narrow(x: Tensor, like: Tensor) -> Tensor:
    limit = torch.finfo(like.dtype).max
    return x.clamp(-limit, limit).type_as(like)


def _transformed() -> bool:
    # the CPU's kernel has no batching rule: vmap would warn and loop over samples
    return not torch.compiler.is_compiling() and torch._C._functorch.maybe_current_level() is not None
