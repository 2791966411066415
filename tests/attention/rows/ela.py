"""Rows of ``ela``."""

from __future__ import annotations

from math import gcd

import torch
from cases import Case, Live, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn

BOTH = {"height": "full", "width": "full"}


def ela(module: nn.Module, x: Tensor, norm_groups: int = 16, axes: tuple[int, int] = (0, 0)) -> Tensor:
    p = values(module)
    channels = x.shape[1]
    norm_groups = gcd(channels, norm_groups)

    def gate(means: Tensor, axis: int) -> Tensor:
        weight = p[f"axes.{axis}.conv.weight"]
        _, mixed, kernel = weight.shape
        length = means.shape[2]
        padded = torch.cat([means.new_zeros(*means.shape[:2], kernel // 2)] * 2, dim=2)
        padded = torch.cat([padded[:, :, : kernel // 2], means, padded[:, :, kernel // 2 :]], dim=2)
        out = []
        for c in range(channels):
            first = c // mixed * mixed
            taps = (padded[:, first : first + mixed, k : k + length] * weight[c, :, k, None] for k in range(kernel))
            out.append(sum(tap.sum(1) for tap in taps))
        z = torch.stack(out, dim=1).reshape(len(x), norm_groups, -1)
        z = (z - z.mean(2, keepdim=True)) / (z.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        weight, bias = (p[f"axes.{axis}.norm.{name}"][:, None] for name in ("weight", "bias"))
        z = z.reshape(means.shape) * weight + bias
        return sigmoid(z * sigmoid(z) if axes[1] else z)

    return x * gate(x.mean(3), axes[0])[..., None] * gate(x.mean(2), axes[1])[:, :, None]


ROWS = [
    Case("ela", 32, 32 * 7 + 2 * 32, BOTH, ela),
    Case("ela", 9, 9 * 7 + 2 * 9, BOTH, ela),  # one group of the norm
    Case("ela", 16, 16 * 7 + 2 * 16, BOTH, ela),  # a channel a group
    Case(
        "ela",
        24,
        24 * 5 * 8 + 2 * 24,
        BOTH,
        lambda m, x: ela(m, x, norm_groups=4),
        {"kernel": 5, "group_width": 8, "norm_groups": 4},
    ),
    Case(
        "ela",
        10,
        2 * (10 * 7 + 2 * 10),
        BOTH,
        lambda m, x: ela(m, x, norm_groups=1, axes=(0, 1)),
        {"form": "separate"},
    ),
]

REFUSED = [
    ({"kernel": 4}, "kernel must be odd and positive, got 4"),
    ({"group_width": 0}, "group_width must be at least 1, got 0"),
    ({"norm_groups": 0}, "norm_groups must be at least 1, got 0"),
    ({"group_width": 3}, r"channels must be a multiple of 3 \(group_width\), got 8"),
    ({"form": "apart"}, "unknown form 'apart'"),
]


class _Listing(nn.Module):
    """The layers of the paper's listing under its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(32, 32, 5, padding=2, groups=4, bias=False)
        self.gn = nn.GroupNorm(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self.gn(self.conv(x.mean(axis))).sigmoid() for axis in (3, 2))
        return x * rows[..., None] * columns[:, :, None]


LIVE = [
    Live("ela", "timm", lambda: create_attn("ela", 64), 64),
    Live("ela", "timm-5", lambda: create_attn("ela", 30, kernel_size=5), 30),
    Live("ela", "listing", _Listing, 32),
]
