"""Rows of ``splat``."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from cases import Case, Live, batch_norm, sigmoid, values
from timm.layers import SplitAttn
from torch import Tensor, nn


def grouped(weight: Tensor, z: Tensor) -> Tensor:
    """Convolve group by group; the kernel tells how many channels a group has."""
    groups = z.shape[1] // weight.shape[1]
    pairs = zip(z.chunk(groups, dim=1), weight.chunk(groups), strict=True)
    return torch.cat([F.conv2d(part, k, padding=k.shape[-1] // 2) for part, k in pairs], dim=1)


def splat(module: nn.Module, x: Tensor, radix: int = 2, cardinality: int = 1) -> Tensor:
    p = values(module)
    features = batch_norm(module, p, "norm", grouped(p["conv.weight"], x)).clamp(min=0).chunk(radix, dim=1)
    z = grouped(p["squeeze.weight"], sum(features).mean((2, 3), keepdim=True))
    z = batch_norm(module, p, "squeeze_norm", z).clamp(min=0)
    logits = grouped(p["excite.weight"], z) + p["excite.bias"][:, None, None]
    # a cardinal group holds its channels of the first split, then those of the second, ...
    rows = [group.chunk(radix, dim=1) for group in logits.chunk(cardinality, dim=1)]
    by_split = [torch.cat([row[i] for row in rows], dim=1) for i in range(radix)]
    if radix == 1:
        return features[0] * sigmoid(by_split[0])
    total = sum(one.exp() for one in by_split)
    return sum(one * logit.exp() / total for one, logit in zip(features, by_split, strict=True))


ROWS = [
    Case(
        "splat",
        16,
        9 * 16 * 16 + 2 * 2 * 16 + 3 * 16 * 32 + 2 * 32 + 2 * 16,
        {"split.0": "channel", "split.1": "channel"},
        splat,
    ),
    Case(  # the splits do not divide the channels: one group
        "splat",
        9,
        9 * 9 * 9 * 2 + 2 * 2 * 9 + 3 * 9 * 32 + 2 * 32 + 2 * 9,
        {"split.0": "channel", "split.1": "channel"},
        splat,
        {"reduction": 1},
    ),
    Case(
        "splat",
        12,
        9 * 12 * 12 * 3 // 6 + 2 * 3 * 12 + 4 * 12 * 10 // 2 + 2 * 10 + 3 * 12,
        {"split.0": "channel", "split.1": "channel", "split.2": "channel"},
        partial(splat, radix=3, cardinality=2),
        {"radix": 3, "cardinality": 2, "hidden": 10},
    ),
    Case(
        "splat",
        12,
        9 * 12 * 12 // 3 + 2 * 12 + 2 * 12 * 33 // 3 + 2 * 33 + 12,
        {"split.0": "channel"},
        partial(splat, radix=1, cardinality=3),
        {"radix": 1, "cardinality": 3},
    ),
]

REFUSED = [
    ({"radix": 0}, "radix must be at least 1, got 0"),
    ({"cardinality": 3}, r"channels must be a multiple of 3 \(cardinality\), got 8"),
    ({"cardinality": 4, "hidden": 6}, r"hidden must be a multiple of 4 \(cardinality\), got 6"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
]

LIVE = [
    Live("splat", "timm", lambda: SplitAttn(64, norm_layer=nn.BatchNorm2d), 64),
    Live("splat", "timm-4s2x", lambda: SplitAttn(64, groups=2, radix=4, norm_layer=nn.BatchNorm2d), 64),
    Live("splat", "timm-1s4x", lambda: SplitAttn(32, groups=4, radix=1, norm_layer=nn.BatchNorm2d), 32),
]
