"""Rows of ``gc``."""

from __future__ import annotations

from cases import Case, Live, dense, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn


def gc(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    context = x.mean((2, 3), keepdim=True)
    if "score.weight" in p:
        weights = dense(p, "score", x).exp()
        context = (x * weights / weights.sum((2, 3), keepdim=True)).sum((2, 3), keepdim=True)
    z = dense(p, "squeeze", context)
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + module.norm.eps).sqrt()
    z = z * p["norm.weight"] + p["norm.bias"]
    term = dense(p, "excite", z.clamp(min=0))
    return x * sigmoid(term) if module.fusion == "mul" else x + term


MUL = {"spatial": "spatial", "channel": "channel"}
ROWS = [
    Case("gc", 64, 2 * 64 * 4 + 2 * 64 + 3 * 4, {"spatial": "spatial"}, gc),
    Case("gc", 20, 2 * 20 * 5 + 2 * 20 + 3 * 5, {"spatial": "spatial"}, gc, {"reduction": 4}),
    Case("gc", 9, 2 * 9 * 5 + 2 * 9 + 3 * 5, MUL, gc, {"fusion": "mul", "hidden": 5, "eps": 1e-3}),
    Case("gc", 9, 2 * 9 * 4 + 9 + 3 * 4, {}, gc, {"pooling": "avg"}),
    Case("gc", 9, 2 * 9 * 4 + 9 + 3 * 4, {"channel": "channel"}, gc, {"pooling": "avg", "fusion": "mul"}),
]

REFUSED = [
    ({"reduction": -1}, "reduction must be at least 1, got -1"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"eps": -1.0}, "eps must be at least 0, got -1.0"),
    ({"fusion": "both"}, "unknown fusion 'both'; valid: add, mul"),
    ({"pooling": "max"}, "unknown pooling 'max'; valid: att, avg"),
]

LIVE = [
    Live("gc", "timm-gca", lambda: create_attn("gca", 64), 64),
    Live("gc", "timm-gc", lambda: create_attn("gc", 30), 30),
    Live("gc", "timm-mean", lambda: create_attn("gc", 30, use_attn=False), 30),
]
