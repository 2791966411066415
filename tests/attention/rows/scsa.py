"""Rows of ``scsa``."""

from __future__ import annotations

import torch
from cases import Case, sigmoid, values
from torch import Tensor, nn

MAPS = {"height": "full", "width": "full", "channel": "channel"}


def normed(p: dict[str, Tensor], name: str, z: Tensor, groups: int) -> Tensor:
    flat = z.reshape(len(z), groups, -1)
    flat = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    shape = (-1, *[1] * (z.ndim - 2))
    return flat.reshape(z.shape) * p[f"{name}.weight"].view(shape) + p[f"{name}.bias"].view(shape)


def scsa(module: nn.Module, x: Tensor, heads: int = 1, window: int = 7) -> Tensor:
    p = values(module)
    channels, width = x.shape[1], x.shape[1] // heads

    def gate(means: Tensor, name: str) -> Tensor:
        out = []
        for c in range(channels):
            i, j = divmod(c, channels // 4)
            weight = p[f"convs.{i}.weight"][j, 0]
            # a band matrix: row t holds the kernel around t
            offsets = torch.arange(means.shape[2])[None] - torch.arange(means.shape[2])[:, None] + len(weight) // 2
            inside = (offsets >= 0) & (offsets < len(weight))
            band = weight[offsets.clamp(0, len(weight) - 1)] * inside
            out.append(means[:, c] @ band.T + p[f"convs.{i}.bias"][j])
        return sigmoid(normed(p, name, torch.stack(out, dim=1), 4))

    weighed = x * gate(x.mean(3), "height_norm")[..., None] * gate(x.mean(2), "width_norm")[:, :, None]
    rows, columns = (max(1, size // window) for size in x.shape[2:])
    strips = [weighed[:, :, i * window : (i + 1) * window] for i in range(rows)]
    means = [strip[..., j * window : (j + 1) * window].mean((2, 3)) for strip in strips for j in range(columns)]
    z = normed(p, "norm", torch.stack(means, dim=2), 1)
    query, key, value = (z * p[f"{name}.weight"].view(-1, 1) for name in ("query", "key", "value"))
    channel = []
    for i in range(heads):
        q, k, v = (z[:, i * width : (i + 1) * width] for z in (query, key, value))
        weights = (torch.einsum("nap,nbp->nab", q, k) / width**0.5).exp()
        weights = weights / weights.sum(2, keepdim=True)
        channel.append(torch.einsum("nab,nbp->nap", weights, v).mean(2))
    return weighed * sigmoid(torch.cat(channel, dim=1))[..., None, None]


ROWS = [
    Case("scsa", 16, 16 * 16, MAPS, scsa),
    Case("scsa", 12, 16 * 12, MAPS, lambda m, x: scsa(m, x, heads=3, window=2), {"heads": 3, "window": 2}),
]

REFUSED = [
    ({"heads": 0}, "heads must be at least 1, got 0"),
    ({"window": 0}, "window must be at least 1, got 0"),
    ({"heads": 3}, r"channels must be a multiple of 3 \(heads\), got 8"),
]
