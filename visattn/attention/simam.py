"""SimAM: each position of each channel weighed by how far it stands out, without parameters."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.ops import widen
from visattn.types import UsageError


@final
class SimAM(AbstractGate):
    r"""Weigh each value by its squared distance from its channel's mean.

    ``d = (x - mean_HW(x))^2``; ``v = sum_HW(d) / max(1, HW - correction)``;
    ``y = x * sigmoid(d / (4 (v + e_lambda)) + 1/2)``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``[0.62, 1]``: a constant channel counts ``sigmoid(1/2)``.

    Cost:
        No parameter; two statistics and some six passes over ``x``, in fp32 for half precision.

    Args:
        channels: ``C``, the channels of the features attended to.
        e_lambda: is added to the variance (default of the authors' code: 1e-4; their released
            ImageNet and COCO runs all use 0.1).
        correction: is subtracted from the count of positions: 1 as in the authors' code, 0 as in
            the paper's text.

    Raises:
        UsageError: ``channels`` or ``e_lambda`` is not positive, or ``correction`` is neither 0 nor 1.

    Example:
        >>> import torch
        >>> SimAM(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Yang et al., "SimAM", ICML 2021, https://proceedings.mlr.press/v139/yang21o.html, equations 5, 6.
        Code: ZjjConan/SimAM has no licence; this file is written from the equations alone.
        Differences: the statistics are taken in fp32 (the sum of squares of a 112x112 map in fp16
        is off by a fifth), and a map of one position has the variance 0 (authors: 0 / 0).
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {"resnet": Place(r"re:(.*\.)?layer\d\.\d+\.conv2", "authors' networks: after conv2, before bn2")}

    def __init__(self, channels: int, *, e_lambda: float = 1e-4, correction: int = 1) -> None:
        super().__init__(channels)
        if not e_lambda > 0:
            raise UsageError(f"e_lambda must be greater than 0, got {e_lambda}")
        if correction not in (0, 1):
            raise UsageError(f"correction must be 0 or 1, got {correction}")
        self.e_lambda = e_lambda
        self.correction = correction
        self.full = MapTap("full")

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every value ``(N, C, H, W)``."""
        x = widen(x)
        distance = (x - x.mean(dim=(2, 3), keepdim=True)).square()
        # counted as a tensor: max() of sizes would break FX tracing, and torch 2.6 cannot compile sym_max
        positions = torch.ones_like(x[:1, :1]).sum(dim=(2, 3), keepdim=True)
        count = (positions - self.correction).clamp_min(1)
        variance = distance.sum(dim=(2, 3), keepdim=True) / count  # (N, C, 1, 1)
        gate = (distance / (4 * (variance + self.e_lambda)) + 0.5).sigmoid()
        return (self.full(gate),)
