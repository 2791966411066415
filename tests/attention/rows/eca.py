"""Rows of ``eca``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, Live, sigmoid, values
from timm.layers import create_attn
from torch import Tensor, nn


def eca(module: nn.Module, x: Tensor) -> Tensor:
    weight = values(module)["mix.weight"].flatten()
    reach = len(weight) // 2
    mean = F.pad(x.mean(dim=(2, 3)), (reach, reach))  # zeros beyond the first and the last channel
    mixed = sum(w * mean[:, i : i + x.shape[1]] for i, w in enumerate(weight))
    return x * sigmoid(torch.as_tensor(mixed))[:, :, None, None]


ROWS = [
    Case("eca", 64, 3, {"channel": "channel"}, eca),
    Case("eca", 512, 5, {"channel": "channel"}, eca),
    Case("eca", 5, 7, {"channel": "channel"}, eca, {"kernel": 7}),
]

REFUSED = [
    ({"kernel": 4}, "kernel must be odd and positive, got 4"),
    ({"gamma": 0}, "gamma must be greater than 0, got 0"),
    ({"kernel": 2.5}, "kernel of eca must be int or None, got 2.5"),
]

LIVE = [
    Live("eca", "timm", lambda: create_attn("eca", 64), 64, {"channels": 64}),
    Live("eca", "timm-5", lambda: create_attn("eca", 256), 256, {"channels": 256}),
]
