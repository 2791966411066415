"""Rows of ``bot``."""

from __future__ import annotations

import torch
from cases import Case, Live, values
from timm.layers.bottleneck_attn import BottleneckAttn
from torch import Tensor, nn


def resized(table: Tensor, length: int) -> Tensor:
    """Return row ``k`` of ``2 length - 1`` from between the rows of ``table``, ends on ends."""
    rows = []
    for k in range(2 * length - 1):
        place = k * (len(table) - 1) / (2 * length - 2) if length > 1 else 0.0
        low = min(int(place), len(table) - 1)
        high = min(low + 1, len(table) - 1)
        rows.append(table[low] + (place - low) * (table[high] - table[low]))
    return torch.stack(rows)


def bot(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    n, c, h, w = x.shape
    qkv = torch.einsum("oc,nchw->nohw", p["qkv.weight"].flatten(1), x).view(n, 3, module.heads, -1, h, w)
    q, k, v = qkv.unbind(1)
    vertical, horizontal = resized(p["vertical"], h), resized(p["horizontal"], w)
    depth = c // module.heads
    output = torch.zeros_like(v)
    for row in range(h):
        for column in range(w):
            here = q[..., row, column]
            content = torch.einsum("nkd,nkdhw->nkhw", here, k)
            down = torch.einsum("nkd,hd->nkh", here, vertical[h - 1 - row : 2 * h - 1 - row])
            along = torch.einsum("nkd,wd->nkw", here, horizontal[w - 1 - column : 2 * w - 1 - column])
            place = down[..., None] + along[..., None, :]
            logits = (content + place) / depth**0.5 if module.scaled == "all" else content / depth**0.5 + place
            weights = logits.flatten(2).softmax(2).unflatten(2, (h, w))
            output[..., row, column] = torch.einsum("nkhw,nkdhw->nkd", weights, v)
    return output.reshape(x.shape)


PAIRWISE = {"pairwise": "pairwise"}
ROWS = [
    Case("bot", 16, 3 * 16**2 + (27 + 27) * 4, PAIRWISE, bot),
    Case("bot", 9, 3 * 9**2 + (11 + 9) * 3, PAIRWISE, bot, {"heads": 3, "height": 6, "width": 5, "scaled": "content"}),
    Case("bot", 6, 3 * 6**2 + (5 + 3) * 3, PAIRWISE, bot, {"height": 3, "width": 2}),
]

REFUSED = [
    ({"heads": 3}, r"channels must be a multiple of 3 \(heads\), got 8"),
    ({"heads": 0}, "heads must be at least 1, got 0"),
    ({"height": 0}, "height must be at least 2, got 0"),
    ({"width": 1}, "width must be at least 2, got 1"),
    ({"scaled": "none"}, "unknown scaled 'none'; valid: all, content"),
]

LIVE = [
    Live("bot", "timm", lambda: BottleneckAttn(64, feat_size=(7, 5)), 64, {"scaled": "content"}),
    Live("bot", "timm-scaled", lambda: BottleneckAttn(32, feat_size=(7, 5), num_heads=2, scale_pos_embed=True), 32),
]
