"""Rows of ``sk``."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from cases import Case, Live, batch_norm, dense, values
from timm.layers import SelectiveKernel
from torch import Tensor, nn


def spread(weight: Tensor, dilation: int) -> Tensor:
    """Return a dilated kernel as a plain one, with zeros between its values."""
    side = dilation * (weight.shape[-1] - 1) + 1
    plain = weight.new_zeros(*weight.shape[:2], side, side)
    plain[:, :, ::dilation, ::dilation] = weight
    return plain


def sk(module: nn.Module, x: Tensor, branches: int = 2, dilated: bool = True, split: bool = False) -> Tensor:
    p = values(module)
    shares = x.chunk(branches, dim=1) if split else [x] * branches
    features = []
    for i, own in enumerate(shares):
        weight = p[f"branches.{i}.0.weight"]
        kernel = spread(weight, i + 1 if dilated else 1)
        groups = own.shape[1] // weight.shape[1]
        pairs = zip(own.chunk(groups, dim=1), kernel.chunk(groups), strict=True)
        z = torch.cat([F.conv2d(part, k, padding=k.shape[-1] // 2) for part, k in pairs], dim=1)
        features.append(batch_norm(module, p, f"branches.{i}.1", z).clamp(min=0))
    joint = torch.stack(features)  # (M, N, C, H, W)
    z = batch_norm(module, p, "norm", dense(p, "squeeze", joint.sum(0).mean((2, 3), keepdim=True))).clamp(min=0)
    weights = torch.stack(dense(p, "excite", z).chunk(branches, dim=1)).exp()
    return (joint * weights / weights.sum(0)).sum(0)


TWO = {"kernel.3": "channel", "kernel.5": "channel"}
THREE = {**TWO, "kernel.7": "channel"}
ROWS = [
    Case("sk", 64, 9 * 2 * 64 * 2 + 2 * 2 * 64 + 64 * 32 + 2 * 32 + 2 * 64 * 32, TWO, sk),
    Case(
        "sk",
        9,
        9 * 3 * 9 * 3 + 2 * 3 * 9 + 9 * 32 + 2 * 32 + 3 * 9 * 32,
        THREE,
        partial(sk, branches=3),
        {"branches": 3, "groups": 6},
    ),
    Case(
        "sk",
        12,
        (9 + 25) * 12 * 3 + 2 * 2 * 12 + 12 * 5 + 2 * 5 + 2 * 12 * 5,
        TWO,
        partial(sk, dilated=False, split=True),
        {"groups": 2, "dilated": False, "split_input": True, "hidden": 5},
    ),
]

REFUSED = [
    ({"branches": 1}, "branches must be at least 2, got 1"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"groups": 0}, "groups must be at least 1, got 0"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"dilated": 1}, "dilated of sk must be bool, got 1"),
    ({"branches": 3, "split_input": True}, r"channels must be a multiple of 3 \(branches\), got 8"),
]

LIVE = [
    Live("sk", "timm-split", lambda: SelectiveKernel(64, 64), 64, {"split_input": True}),
    Live("sk", "timm", lambda: SelectiveKernel(64, 64, groups=32, split_input=False, rd_divisor=32), 64),
    Live("sk", "timm-full", lambda: SelectiveKernel(32, 32, split_input=False, keep_3x3=False, rd_ratio=0.5), 32),
    Live("sk", "timm-three", lambda: SelectiveKernel(24, 24, [3, 5, 7], groups=4), 24, {"split_input": True}),
]
