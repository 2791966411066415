"""Rows of ``polarized``."""

from __future__ import annotations

import torch
from cases import Case, dense, sigmoid, values
from torch import Tensor, nn

MAPS = {"channel": "channel", "spatial": "spatial"}


def softmax(z: Tensor, axis: int) -> Tensor:
    z = z.exp()
    return z / z.sum(axis, keepdim=True)


def layer_norm(p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    return z * p[f"{name}.weight"] + p[f"{name}.bias"]


def polarized(module: nn.Module, x: Tensor, layout: str = "parallel", form: str = "code") -> Tensor:
    p = values(module)

    def channel(x: Tensor) -> Tensor:
        weights = softmax(dense(p, "channel_query", x).flatten(2), 2)
        value = dense(p, "channel_value", x).flatten(2)
        context = torch.einsum("ncp,nop->nco", value, weights)[..., None]
        z = dense(p, "excite.0", context)
        if (form, layout) == ("code", "sequential"):
            z = dense(p, "excite.3", layer_norm(p, "excite.1", z).clamp(min=0))
        return sigmoid(layer_norm(p, "excite.1", z) if form == "paper" else z)

    def spatial(x: Tensor) -> Tensor:
        query = dense(p, "spatial_query", x).mean((2, 3))
        value = dense(p, "spatial_value", x).flatten(2)
        if form == "paper":
            query = softmax(query, 1)
        elif layout == "sequential":
            value = softmax(value, 2)
        scores = torch.einsum("nc,ncp->np", query, value)
        if (form, layout) == ("code", "parallel"):
            scores = softmax(scores, 1)
        return sigmoid(scores).reshape(len(x), 1, *x.shape[2:])

    if layout == "parallel":
        return x * channel(x) + x * spatial(x)
    x = x * channel(x)
    return x * spatial(x)


ROWS = [
    Case("polarized", 16, 4 * 16 * 8 + 16, MAPS, polarized),
    Case("polarized", 7, 4 * 7 * 3 + 7, MAPS, polarized),
    Case(
        "polarized",
        40,
        3 * 40 * 20 + 40 + 20 * 5 + 5 * 40 + 3 * 5 + 40,
        MAPS,
        lambda m, x: polarized(m, x, "sequential"),
        {"layout": "sequential"},
    ),
    Case(
        "polarized",
        9,
        3 * 9 * 4 + 9 + 4 * 6 + 6 * 9 + 3 * 6 + 9,
        MAPS,
        lambda m, x: polarized(m, x, "sequential"),
        {"layout": "sequential", "hidden": 6},
    ),
    Case("polarized", 12, 4 * 12 * 6 + 3 * 12, MAPS, lambda m, x: polarized(m, x, form="paper"), {"form": "paper"}),
    Case(
        "polarized",
        11,
        4 * 11 * 5 + 3 * 11,
        MAPS,
        lambda m, x: polarized(m, x, "sequential", "paper"),
        {"layout": "sequential", "form": "paper"},
    ),
]

REFUSED = [
    ({"layout": "serial"}, "unknown layout 'serial'; .*valid: parallel, sequential"),
    ({"form": "papers"}, "unknown form 'papers'; did you mean 'paper'"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
]
