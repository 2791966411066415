"""CLIP's attention pool: the mean of a map asks its positions, by multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractPool, MapTap, Place
from visattn.attention._pooling import check_heads, context, masked, weigh
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError


@final
class AttentionPool2d(AbstractPool):
    r"""Pool a map by multi-head attention whose one query is the mean of the map.

    ``t_0 = mean_i(x_i) + p_0``, ``t_i = x_i + p_i``; for each head ``beta = softmax(q^T k)`` over the
    ``HW + 1`` tokens with ``q = (Wq t_0 + bq) / sqrt(d)``, ``k_i = Wk t_i``, ``d = C / heads``;
    ``c = Wc concat_heads(sum_i beta_i (Wv t_i + bv)) + bc``. On maps of another side than ``size`` the
    learnt positions ``p`` are resampled (bicubic, antialiased).

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - input ``mask``: ``None`` or ``(N, H, W)`` of bool; where it is False the weight is 0, also in
          the mean. A sample whose mask is False everywhere pools to zeros, and so does its map.
        - output: ``(N, C)`` in the dtype of ``x``.
        - map ``pool`` (softmax): ``(N, heads, H, W)``, which sums to 1 over positions: ``beta`` without
          the mean's own weight ``beta_0``, divided by ``1 - beta_0``.

    Cost:
        ``4 C^2 + 3 C + (size^2 + 1) C`` parameters; ``2 heads C H W + 4 C^2`` multiply-adds a sample
        (keys and values of all positions would take ``2 C^2 H W``) and one copy of ``x``.

    Args:
        channels: ``C``, the channels of the features pooled.
        size: the side of the map that the learnt positions are for (CLIP: image side / 32, so 7).
        heads: how many groups of channels are weighed apart; must divide ``channels``. ``None`` takes
            ``gcd(C, C // 64)``, so 64 channels a head as in CLIP where that divides.

    Raises:
        UsageError: ``channels``, ``size`` or ``heads`` is not positive, ``heads`` does not divide
            ``channels``, or a mask is not boolean of shape ``(N, H, W)``.

    Example:
        >>> import torch
        >>> AttentionPool2d(64)(torch.zeros(2, 64, 7, 5)).shape
        torch.Size([2, 64])

    References:
        Radford et al., "Learning transferable visual models from natural language supervision", ICML
        2021, https://arxiv.org/abs/2103.00020, section 2.4.
        Code: openai/CLIP (MIT), ``clip/model.py``; timm's ``AttentionPool2d`` resamples positions as
        here, CLIP takes one size. Differences: ``Wk`` has no bias, which the softmax would cancel;
        the output has ``C`` channels (CLIP's heads project to the width of its texts: such weights do
        not load); biases start at 0. As there is one query, no key and no value of a position is
        made: ``q^T Wk`` is taken first and ``Wv`` last, which gives the same numbers.
        Its ``strength`` is for the site to use: only the host knows the pooling that it replaces.
    """

    family: ClassVar = "pool"
    paper: ClassVar = {"resnet": Place("pool", "section 2.4: in place of global average pooling")}

    def __init__(self, channels: int, *, size: int = 7, heads: int | None = None) -> None:
        super().__init__(channels)
        if size < 1:
            raise UsageError(f"size must be at least 1, got {size}")
        if heads is None:
            heads = math.gcd(channels, max(1, channels // 64))
        check_heads(channels, heads)
        self.size = size
        self.heads = heads
        self.position = nn.Parameter(torch.randn(size**2 + 1, channels) / channels**0.5)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)
        self.pool = MapTap("pool", softmax=True)
        for layer in (self.query, self.key, self.value, self.project):
            nn.init.normal_(layer.weight, std=channels**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of CLIP's or timm's block; ``heads`` is not told by them."""
        own = translated(
            _separate(state),
            {
                "positional_embedding": "position",
                "q_proj": "query",
                "k_proj": "key",
                "k_proj.bias": "",
                "v_proj": "value",
                "c_proj": "project",
            },
            {"pos_embed": "position", "q": "query", "k": "key", "k.bias": "", "v": "value", "proj": "project"},
        )
        places, channels = own["position"].shape
        return filled(cls(channels, size=math.isqrt(places - 1), **keywords), own)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the pooled features ``(N, C)`` of ``x``; positions where ``mask`` is False get no weight."""
        count, width = self.heads, self.channels // self.heads
        points = x + self._positions(x)  # (N, C, H, W)
        token = self._mean(x, mask) + self.position[0].type_as(x)  # (N, C)
        query = (self.query(token) / width**0.5).view(-1, count, width)
        asked = torch.einsum("nhd,hdc->nhc", query, self.key.weight.view(count, width, -1))  # (N, heads, C)
        scores = (asked @ points.flatten(2)).view(-1, count, x.shape[2], x.shape[3])
        weights = self.pool(weigh(scores, mask))
        # softmax over all tokens: the mean's share beside the positions', and the positions' among themselves
        others = masked(scores, mask).flatten(2).logsumexp(dim=2, keepdim=True)
        share = (widen(asked @ token.unsqueeze(-1)) - others).sigmoid().type_as(points)  # (N, heads, 1)
        rest = weights.flatten(2).type_as(points) @ points.flatten(2).transpose(1, 2)  # (N, heads, C)
        pooled = share * token.unsqueeze(1) + (1 - share) * rest
        values = torch.einsum("nhc,hdc->nhd", pooled, self.value.weight.view(count, width, -1)).flatten(1)
        y = self.project(values + self.value.bias).type_as(x)
        return y if mask is None else y * mask.flatten(1).any(dim=1, keepdim=True)

    def _positions(self, x: Tensor) -> Tensor:
        """Return the positions ``(C, H, W)`` for the map ``x``; at the learnt side they come back as they are."""
        grid = widen(self.position[1:]).view(self.size, self.size, self.channels)
        rows, columns = _resampling(self.size, x.shape[2], grid), _resampling(self.size, x.shape[3], grid)
        return torch.einsum("hi,wj,ijc->chw", rows, columns, grid).type_as(x)

    @staticmethod
    def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return x.mean(dim=(2, 3))
        allowed = widen(mask.unsqueeze(1).type_as(x))
        return context(x, allowed / allowed.sum(dim=(2, 3), keepdim=True).clamp(min=1))


def _resampling(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix ``(new, old)`` that takes ``old`` values on a line to ``new``, in the dtype of ``like``.

    The kernel is the cubic one with ``a = -1/2``, widened where the line shrinks. ``F.interpolate`` has it too
    (``antialias=True``), but on a CPU it is wrong for maps one column wide, and its backward on CUDA is not
    deterministic.
    """
    line = like.new_ones(new, dtype=torch.int64)
    step = old / line.sum().type_as(like)  # a tensor, since a graph may not compare sizes
    places = like.new_ones(old, dtype=torch.int64).cumsum(0).type_as(like) - 0.5
    centres = (line.cumsum(0).type_as(like) - 0.5) * step
    d = ((places - centres.unsqueeze(1)) / step.clamp(min=1)).abs()
    near, far = (1.5 * d - 2.5) * d**2 + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    weights = torch.where(d <= 1, near, far) * (d < 2)
    return weights / weights.sum(dim=1, keepdim=True)


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's one layer ``qkv`` as three."""
    own = {key: value for key, value in state.items() if not key.startswith("qkv.")}
    for kind in ("weight", "bias"):
        if f"qkv.{kind}" in state:
            own |= {f"{name}.{kind}": part for name, part in zip("qkv", state[f"qkv.{kind}"].chunk(3), strict=True)}
    return own
