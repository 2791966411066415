"""Rows of ``se``."""

from __future__ import annotations

from cases import Case, Live, dense, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation


def se(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)
    squeezed = dense(p, "squeeze", x.mean(dim=(2, 3), keepdim=True))
    return x * sigmoid(dense(p, "excite", squeezed.clamp(min=0)))


ROWS = [
    Case("se", 32, 2 * 32 * 2 + 2 + 32, {"channel": "channel"}, se),
    Case("se", 6, 2 * 6 * 1 + 1 + 6, {"channel": "channel"}, se),  # fewer channels than the reduction
    Case("se", 24, 2 * 24 * 6 + 6 + 24, {"channel": "channel"}, se, {"reduction": 4}),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"reduction": "x"}, "reduction of se must be int, got 'x'"),
    ({"reduction": True}, "reduction of se must be int, got True"),
]

LIVE = [
    Live("se", "timm", lambda: create_attn("se", 64), 64),
    Live("se", "torchvision", lambda: SqueezeExcitation(30, 7), 30),
]
