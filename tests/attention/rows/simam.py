"""Rows of ``simam``."""

from __future__ import annotations

from cases import Case, sigmoid
from torch import Tensor, nn


def simam(module: nn.Module, x: Tensor, e_lambda: float = 1e-4, correction: int = 1) -> Tensor:
    del module  # no parameters
    count = max(1, x.shape[2] * x.shape[3] - correction)
    distance = (x - x.mean((2, 3), keepdim=True)) ** 2
    variance = distance.sum((2, 3), keepdim=True) / count
    # the paper's energy of a value, equation 5; its inverse is the importance
    energy = 4 * (variance + e_lambda) / (distance + 2 * variance + 2 * e_lambda)
    return x * sigmoid(1 / energy)


ROWS = [
    Case("simam", 16, 0, {"full": "full"}, simam),
    Case(
        "simam",
        3,
        0,
        {"full": "full"},
        lambda m, x: simam(m, x, e_lambda=0.1, correction=0),
        {"e_lambda": 0.1, "correction": 0},
    ),
]

REFUSED = [
    ({"e_lambda": 0.0}, "e_lambda must be greater than 0, got 0.0"),
    ({"e_lambda": float("nan")}, "e_lambda must be greater than 0, got nan"),
    ({"correction": 2}, "correction must be 0 or 1, got 2"),
    ({"e_lambda": "1"}, "e_lambda of simam must be float, got '1'"),
]
