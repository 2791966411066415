"""Rows of ``shuffle``."""

from __future__ import annotations

import torch
from cases import Case, sigmoid, values
from torch import Tensor, nn


def shuffle(module: nn.Module, x: Tensor) -> Tensor:
    p = {name: value.flatten() for name, value in values(module).items()}
    channels, width = x.shape[1], p["cbias"].numel()
    weighed = []
    for c in range(channels):  # one channel after the other, each by its place in its group
        z, place = x[:, c], c % (2 * width)
        i = place % width
        mean = z.mean((1, 2), keepdim=True)
        if place < width:
            gate = sigmoid(p["cweight"][i] * mean + p["cbias"][i])
        else:
            normed = (z - mean) / ((z - mean).square().mean((1, 2), keepdim=True) + 1e-5).sqrt()
            normed = normed * p["norm.weight"][i] + p["norm.bias"][i]
            gate = sigmoid(p["sweight"][i] * normed + p["sbias"][i])
        weighed.append(z * gate)
    return torch.stack([weighed[i // 2 + i % 2 * channels // 2] for i in range(channels)], dim=1)


ROWS = [
    Case("shuffle", 32, 3 * 32 // 16, {"full": "full"}, shuffle),
    Case("shuffle", 14, 3 * 14 // 7, {"full": "full"}, shuffle),  # an odd half
    Case("shuffle", 24, 3 * 24 // 3, {"full": "full"}, shuffle, {"groups": 3}),
]

REFUSED = [
    ({"groups": 0}, "groups must be at least 1, got 0"),
    ({"groups": 3}, r"channels must be a multiple of 6 \(2 \* groups\), got 8"),
    ({"groups": 64}, r"channels must be a multiple of 128 \(2 \* groups\), got 8"),
]
