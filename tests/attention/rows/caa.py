"""Rows of ``caa``."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from cases import Case, Live, dense, sigmoid, values
from torch import Tensor, nn


def normed(module: nn.Module, p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    """Return a 1x1 convolution of ``z``, with a batch norm and SiLU behind it where there is one."""
    z = dense(p, f"{name}.0", z)
    if f"{name}.1.weight" not in p:
        return z
    if module.training and z[:, 0].numel() > 1:
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
    else:
        mean, var = p[f"{name}.1.running_mean"], p[f"{name}.1.running_var"]
    scale = p[f"{name}.1.weight"] * (var + 1e-3) ** -0.5
    z = z * scale[:, None, None] + (p[f"{name}.1.bias"] - mean * scale)[:, None, None]
    return z * sigmoid(z)


def strip(weight: Tensor, bias: Tensor, z: Tensor, axis: int) -> Tensor:
    taps = weight.flatten(1)  # (C, kernel)
    half, size = taps.shape[1] // 2, z.shape[axis]
    padded = F.pad(z, (half, half, 0, 0) if axis == 3 else (0, 0, half, half))
    moved = torch.stack([padded.narrow(axis, i, size) for i in range(taps.shape[1])], dim=-1)
    return torch.einsum("nchwk,ck->nchw", moved, taps) + bias[:, None, None]


def caa(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    padded, (h, w) = F.pad(x, (3, 3, 3, 3)), x.shape[2:]
    z = torch.stack([padded[:, :, i : i + h, j : j + w] for i in range(7) for j in range(7)]).sum(0) / 49
    z = normed(module, p, "enter", z)
    z = strip(p["row.weight"], p["row.bias"], z, 3)
    z = strip(p["column.weight"], p["column.bias"], z, 2)
    return x * sigmoid(normed(module, p, "leave", z))


class Released(nn.Module):
    """The block as the authors' networks build it, without norms, under its names there."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        strips = {"h_conv": (1, kernel), "v_conv": (kernel, 1)}
        for name, sides in {"conv1": (1, 1), **strips, "conv2": (1, 1)}.items():
            groups = channels if name in strips else 1
            layer = nn.Conv2d(channels, channels, sides, padding="same", groups=groups)
            self.add_module(name, nn.Sequential(OrderedDict(conv=layer)))

    def forward(self, x: Tensor) -> Tensor:
        z = F.avg_pool2d(x, 7, stride=1, padding=3)
        for layer in self.children():
            z = layer(z)
        return x * z.sigmoid()


ROWS = [
    Case("caa", 5, 2 * 25 + 2 * 5 * 11 + 4 * 5, {"full": "full"}, caa),
    Case("caa", 8, 2 * 64 + 2 * 8 * 5 + 4 * 8, {"full": "full"}, caa, {"kernel": 5}),
    Case("caa", 6, 2 * 36 + 2 * 6 * 11 + 6 * 6, {"full": "full"}, caa, {"norm": "batch"}),
]

REFUSED = [
    ({"kernel": 4}, "kernel must be odd and positive, got 4"),
    ({"norm": "batchnorm"}, "unknown norm 'batchnorm'; did you mean 'batch'. valid: none, batch"),
]

LIVE = [Live("caa", "released form", lambda: Released(12, 13), 12)]
