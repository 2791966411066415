"""Criss-cross attention: each position draws from its row and its column, and so in two passes from all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import wide_matmul
from visattn.types import UsageError


@final
class CC(AbstractTransform):
    r"""Add to each position a mean of the positions in its row and column, and do so again.

    ``x <- x + gamma sum_j softmax_j(query(x_i) . key(x_j)) value(x_j)`` over the ``H + W - 1`` positions ``j`` that
    share a row or a column with ``i``, ``recurrence`` times with the same weights.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``pairwise.0``, ``pairwise.1``, ... (softmax), one a pass: ``(N, 1, HW, HW)``, 0 off the cross of each
          position; rows sum to 1.

    Cost:
        ``C^2 + C + 2 C I + I + 1`` parameters for ``I = max(1, C // reduction)``; ``recurrence`` times
        ``(C^2 + 2 C I + (C + I) (H + W)) HW`` multiply-adds a sample and ``HW (H + W)`` weights to keep.

    Args:
        channels: ``C``, the channels of the features attended to.
        recurrence: how many passes (paper: 2, so that each position reaches every other).
        reduction: divides the channels of queries and keys (paper: 8).
        inner: ``I`` itself, for weights whose width no reduction gives.

    Raises:
        UsageError: ``channels``, ``recurrence``, ``reduction`` or ``inner`` is not positive.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(CC(64)(x), x)
        True

    References:
        Huang et al., "CCNet: Criss-cross attention for semantic segmentation", ICCV 2019,
        https://arxiv.org/abs/1811.11721, section 3; ``gamma``, in the code alone, starts at 0.
        Code: speedinghzl/CCNet (MIT), ``CrissCrossAttention``, whose head repeats it. Differences: ``key`` has no bias,
        which the softmax would cancel; products and softmax are taken in fp32; fewer than ``reduction`` channels keep
        one query. Their head first convolves to a quarter of the channels.
    """

    family: ClassVar = "global"
    paper: ClassVar = {"resnet": Place("stages", "section 3.1, figure 2: on the last stage's features", stages=(4,))}

    def __init__(self, channels: int, *, recurrence: int = 2, reduction: int = 8, inner: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"recurrence": recurrence, "reduction": reduction, "inner": inner}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        inner = inner or max(1, channels // reduction)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.pairwise = nn.ModuleList(MapTap("pairwise", softmax=True) for _ in range(recurrence))

    def start_as_identity(self) -> None:
        """Set gamma to 0, as the authors do: the block then adds 0 and takes no strength."""
        # a strength of 0 in front of a gamma of 0 would leave both without a gradient for ever
        nn.init.zeros_(self.gamma)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``CrissCrossAttention``."""
        names = {"query_conv": "query", "key_conv.weight": "key.weight", "key_conv.bias": "", "value_conv": "value"}
        own = translated(state, names | {"gamma": "gamma"})
        inner, channels = own["query.weight"].shape[:2]
        return filled(cls(channels, inner=inner, **keywords), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` after all passes."""
        for tap in self.pairwise:
            x = self._pass(x, tap)
        return x

    def _pass(self, x: Tensor, tap: nn.Module) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        h = x.shape[2]
        columns = wide_matmul(query.permute(0, 3, 2, 1), key.permute(0, 3, 1, 2)).transpose(1, 2)  # (N, H, W, H)
        rows = wide_matmul(query.permute(0, 2, 3, 1), key.permute(0, 2, 1, 3))  # (N, H, W, W)
        # each position stands in its row and in its column, and counts once
        itself = columns.new_ones(h, dtype=torch.bool).diag_embed().unsqueeze(1)  # (H, 1, H)
        columns = columns.masked_fill(itself, -torch.inf)
        weights = torch.cat([columns, rows], dim=3).softmax(dim=3)
        columns, rows = weights[..., :h], weights[..., h:]
        if tap.watched:
            tap(_scattered(columns, rows))
        across = columns.transpose(1, 2).type_as(value) @ value.permute(0, 3, 2, 1)  # (N, W, H, C)
        along = rows.type_as(value) @ value.permute(0, 2, 3, 1)  # (N, H, W, C)
        return x + self.gamma * (across.permute(0, 3, 2, 1) + along.permute(0, 3, 1, 2))


def _scattered(columns: Tensor, rows: Tensor) -> Tensor:
    """Return the weights of each position's column and row as a map of all positions, ``(N, 1, HW, HW)``."""
    n, h, w, _ = columns.shape
    same_row, same_column = columns.new_ones(h).diag_embed(), columns.new_ones(w).diag_embed()
    spread = columns.unsqueeze(4) * same_column.view(w, 1, w) + rows.unsqueeze(3) * same_row.view(h, 1, h, 1)
    return spread.reshape(n, 1, h * w, h * w)
