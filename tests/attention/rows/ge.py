"""Rows of ``ge``."""

from __future__ import annotations

import torch
from cases import Case, Live, batch_norm, dense, sigmoid, values
from timm.layers.gather_excite import GatherExcite
from torch import Tensor, nn


def _window_means(x: Tensor, extent: int) -> Tensor:
    """Average a window of ``2 * extent - 1`` positions at every ``extent``-th position."""
    h, w = x.shape[2:]
    rows = []
    for i in range(0, h, extent):
        strip = x[:, :, max(0, i - extent + 1) : i + extent]
        rows.append([strip[..., max(0, j - extent + 1) : j + extent].mean((2, 3)) for j in range(0, w, extent)])
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _strided(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve each channel alone by 3x3 kernels at every second position, zeros outside."""
    h, w = x.shape[2:]
    padded = x.new_zeros(*x.shape[:2], h + 2, w + 2)
    padded[:, :, 1:-1, 1:-1] = x
    y = sum(
        padded[:, :, a : a + h : 2, b : b + w : 2] * weight[:, 0, a, b, None, None] for a in range(3) for b in range(3)
    )
    return torch.as_tensor(y)


def _averaged(x: Tensor, size: int) -> Tensor:
    """Average ``x`` to ``size`` x ``size`` bins, from the floor of their start to the ceiling of their end."""
    for axis in (2, 3):
        n = x.shape[axis]
        bins = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        x = torch.stack([x.narrow(axis, a, b - a).mean(axis) for a, b in bins], dim=axis)
    return x


def ge(module: nn.Module, x: Tensor, *, extent: int, conv: int = 0, mlp: bool = False, size: int = 7) -> Tensor:
    p = values(module)
    if not conv:
        z = _window_means(x, extent) if extent else x.mean((2, 3), keepdim=True)
    elif extent:
        z = x
        for i in range(conv):
            z = z.clamp(min=0) if i else z
            z = batch_norm(module, p, f"gather.{3 * i + 1}", _strided(z, p[f"gather.{3 * i}.weight"]))
    else:
        z = torch.einsum("nchw,chw->nc", _averaged(x, size), p["gather.0.weight"][:, 0])
        z = batch_norm(module, p, "gather.1", z[:, :, None, None])
    if mlp:
        z = dense(p, "mlp.2", dense(p, "mlp.0", z).clamp(min=0))
    gate = sigmoid(z)
    h, w = x.shape[2:]
    rows, columns = (torch.arange(n) * m // n for n, m in zip((h, w), gate.shape[2:], strict=True))
    return x * gate[:, :, rows][..., columns]


CHANNEL, FULL = {"gate": "channel"}, {"gate": "full"}
ROWS = [
    Case("ge", 6, 0, CHANNEL, lambda m, x: ge(m, x, extent=0)),
    Case("ge", 5, 0, FULL, lambda m, x: ge(m, x, extent=2), {"extent": 2}),
    Case("ge", 5, 0, FULL, lambda m, x: ge(m, x, extent=8), {"extent": 8}),
    Case("ge", 32, 2 * 32 * 2 + 2 + 32, CHANNEL, lambda m, x: ge(m, x, extent=0, mlp=True), {"excite": "mlp"}),
    Case(
        "ge",
        7,
        11 * 7 * 2 + 2 * 7 * 3 + 3 + 7,
        FULL,
        lambda m, x: ge(m, x, extent=4, conv=2, mlp=True),
        {"extent": 4, "gather": "conv", "excite": "mlp", "hidden": 3},
    ),
    Case("ge", 5, 11 * 5, FULL, lambda m, x: ge(m, x, extent=2, conv=1), {"extent": 2, "gather": "conv"}),
    Case("ge", 6, 51 * 6, CHANNEL, lambda m, x: ge(m, x, extent=0, conv=1), {"gather": "conv"}),
    Case(
        "ge",
        6,
        11 * 6 + 2 * 6 * 3 + 3 + 6,
        CHANNEL,
        lambda m, x: ge(m, x, extent=0, conv=1, mlp=True, size=3),
        {"gather": "conv", "excite": "mlp", "size": 3, "reduction": 2},
    ),
]

REFUSED = [
    ({"extent": 3}, "extent must be 0 or a power of 2 from 2 on, got 3"),
    ({"extent": 1}, "extent must be 0 or a power of 2 from 2 on, got 1"),
    ({"extent": -2}, "extent must be 0 or a power of 2 from 2 on, got -2"),
    ({"gather": "cnov"}, "unknown gather 'cnov'; did you mean 'conv'"),
    ({"excite": "conv"}, "unknown excite 'conv'; valid: none, mlp"),
    ({"size": 0}, "size must be at least 1, got 0"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
]


def timm(channels: int, extent: int, hidden: int = 0) -> nn.Module:
    """Give timm's ``GatherExcite`` the layers that its constructor means and, in 1.0.31, cannot build."""
    module = GatherExcite(channels, extent=extent, use_mlp=False)
    module.gather, module.mlp = nn.Sequential(), nn.Sequential()
    for i in range(1, extent.bit_length()):
        conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        module.gather.add_module(f"conv{i}", conv)
        module.gather.add_module(f"norm{i}", nn.BatchNorm2d(channels))
        module.gather.add_module(f"act{i}", nn.ReLU() if 2**i < extent else nn.Identity())
    if hidden:
        module.mlp.add_module("fc1", nn.Conv2d(channels, hidden, 1))
        module.mlp.add_module("act", nn.ReLU())
        module.mlp.add_module("fc2", nn.Conv2d(hidden, channels, 1))
    return module


LIVE = [
    *(
        Live(
            "ge",
            f"timm-{extent}",
            lambda extent=extent: GatherExcite(12, extent=extent, use_mlp=False),
            12,
            {"channels": 12, "extent": extent},
        )
        for extent in (0, 2, 8)
    ),
    Live("ge", "timm-conv", lambda: timm(12, 4), 12),
    Live("ge", "timm-conv-mlp", lambda: timm(12, 2, hidden=5), 12),
]
