"""Multi-head self-attention with relative positions, which BoTNet has in place of 3x3 convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import attend_pairs, wide_matmul, widen
from visattn.types import UsageError, unknown

SCALINGS = ("all", "content")


@final
class BoT(AbstractTransform):
    r"""Give each position a mean of all positions, weighed by content and by where the other stands.

    ``y_i = sum_j softmax_j((q_i . k_j + q_i . (v[row_j - row_i] + h[column_j - column_i])) / sqrt(d)) value_j`` in each
    of the heads, of ``d = C / heads`` channels; ``v`` and ``h`` are learnt for an image of ``height x width`` and
    interpolated for any other.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``pairwise`` (softmax): ``(N, heads, HW, HW)``, rows sum to 1.

    Cost:
        ``3 C^2 + (2 (height + width) - 2) d`` parameters; ``(3 C^2 + 2 C HW + C (H + W)) HW`` multiply-adds a
        sample and ``heads (HW)^2`` logits of positions to keep: for small maps.

    Args:
        channels: ``C``, the channels of the features attended to.
        heads: must divide ``channels``; ``None`` is 4 (paper), or 2 or 1 where 4 does not.
        height: the rows for which vertical distances are learnt.
        width: the columns for which horizontal distances are learnt.
        scaled: what is divided by ``sqrt(d)``: ``all`` (authors' code) or ``content``, only ``q . k`` (timm's default).

    Raises:
        UsageError: ``channels`` or ``heads`` is not positive, ``heads`` does not divide ``channels``, ``height`` or
            ``width`` is below 2 (one distance would be ignored by the softmax), or ``scaled`` is unknown.

    Example:
        >>> import torch
        >>> BoT(64)(torch.zeros(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])

    References:
        Srinivas et al., "Bottleneck transformers for visual recognition", CVPR 2021,
        https://arxiv.org/abs/2101.11605, section 3, figure 4.
        Code: the authors' gist (TensorFlow, no weights); timm's ``BottleneckAttn`` (Apache-2.0). Differences: other
        sizes than the learnt one are served, by linear interpolation that keeps the distance 0 in the middle, theirs
        refuse them; no stride. The tables start at random with the deviation ``d^-0.5``, which the gist gives as their
        mean, by its own account in error.
    """

    family: ClassVar = "global"
    paper: ClassVar = {
        "resnet": Place(
            r"re:(.*\.)?layer4\.\d+\.conv2", "section 3: in place of the last stage's 3x3, here behind them"
        )
    }

    def __init__(
        self,
        channels: int,
        *,
        heads: int | None = None,
        height: int = 14,
        width: int = 14,
        scaled: Literal["all", "content"] = "all",
    ) -> None:
        super().__init__(channels)
        # a single distance would add the same to all logits, which the softmax ignores
        for name, value, least in (("heads", heads, 1), ("height", height, 2), ("width", width, 2)):
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        if scaled not in SCALINGS:
            raise unknown("scaled", scaled, SCALINGS)
        self.heads = heads or math.gcd(4, channels)
        if channels % self.heads:
            raise UsageError(f"channels must be a multiple of {self.heads} (heads), got {channels}")
        depth = channels // self.heads
        self.scale = depth**-0.5
        self.scaled = scaled
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.vertical = nn.Parameter(self.scale * torch.randn(2 * height - 1, depth))
        self.horizontal = nn.Parameter(self.scale * torch.randn(2 * width - 1, depth))
        self.pairwise = MapTap("pairwise", softmax=True)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of timm's block, whose default is ``scaled="content"``."""
        own = translated(state, {"qkv": "qkv", "pos_embed.height_rel": "vertical", "pos_embed.width_rel": "horizontal"})
        channels, (rows, depth), columns = own["qkv.weight"].shape[1], own["vertical"].shape, len(own["horizontal"])
        found = {"heads": channels // depth, "height": (rows + 1) // 2, "width": (columns + 1) // 2}
        return filled(cls(channels, **{**found, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return the attended values."""
        n, h, w = x.shape[0], x.shape[2], x.shape[3]
        parts = self.qkv(x).reshape(n, 3, self.heads, -1, h * w).transpose(3, 4)  # (N, 3, heads, HW, d)
        query, key, value = parts[:, 0], parts[:, 1], parts[:, 2]
        bias = self._positions(query.reshape(n, self.heads, h, w, -1))
        bias = bias * self.scale if self.scaled == "all" else bias
        y = attend_pairs(query, key, value, self.pairwise, scale=self.scale, bias=bias)
        # a copy gives it the memory format of the input
        return torch.empty_like(x).copy_(y.transpose(2, 3).reshape(x.shape))

    def _positions(self, query: Tensor) -> Tensor:
        """Return ``q_i . (v + h)`` ``(N, heads, HW, HW)`` for queries ``(N, heads, H, W, d)``."""
        n, heads, h, w = query.shape[:4]
        down = wide_matmul(query, _by_pair(self.vertical, h))  # (N, heads, H, W, H)
        along = wide_matmul(query.transpose(2, 3), _by_pair(self.horizontal, w)).transpose(2, 3)  # (N, heads, H, W, W)
        return (down.unsqueeze(5) + along.unsqueeze(4)).reshape(n, heads, h * w, h * w)


def _by_pair(table: Tensor, length: int) -> Tensor:
    """Return for each of ``length`` places the entries for all of them, ``(length, d, length)``, by their distance."""
    resized = F.interpolate(
        widen(table).T.unsqueeze(0), size=2 * length - 1, mode="linear", align_corners=True
    )  # (1, d, 2 length - 1)
    return resized.squeeze(0).unfold(1, length, 1).flip(1).transpose(0, 1)
