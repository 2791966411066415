"""Rows of ``lka``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, dense, values
from torch import Tensor, nn


def depthwise(p: dict[str, Tensor], name: str, z: Tensor, dilation: int) -> Tensor:
    weight, (h, w) = p[f"{name}.weight"], z.shape[2:]
    side = weight.shape[-1]
    padded = F.pad(z, (side // 2 * dilation,) * 4)
    total = p[f"{name}.bias"][:, None, None].expand_as(z)
    for i in range(side):
        for j in range(side):
            shifted = padded[:, :, i * dilation : i * dilation + h, j * dilation : j * dilation + w]
            total = total + weight[:, 0, i, j, None, None] * shifted
    return total


def lka(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    return x * dense(p, "mix", depthwise(p, "far", depthwise(p, "near", x, 1), 3))


def whole(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    z = dense(p, "enter.0", x)
    z = z * (1 + torch.erf(z / 2**0.5)) / 2
    return x + dense(p, "leave", lka(module, z))


ROWS = [
    Case("lka", 5, 25 + 77 * 5, {"full": "full"}, lka),
    Case("lka", 8, 64 + 77 * 8, {"full": "full"}, lka),
    Case("lka", 6, 3 * 36 + 79 * 6, {"full": "full"}, whole, {"form": "module"}),
]

REFUSED = [
    ({"form": "block"}, "unknown form 'block'; .*valid: gate, module"),
]
