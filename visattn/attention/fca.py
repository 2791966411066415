"""Frequency channel attention: each channel weighed from one cosine component of every channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError

# Frequencies along H and W in a 7x7 spectrum, best first: the paper ranks each one used alone.
RANKED = "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13"


@final
class FCA(AbstractGate):
    r"""Weigh each channel by a two-layer perceptron on cosine components; the channel mean is the lowest of them.

    ``z_c = sum_HW(pool(x_c) * B_c)``; ``y = x * sigmoid(W2 relu(W1 z))``. ``B_c`` is a function of the
    orthonormal discrete cosine transform on a grid of ``size`` x ``size``: ``frequencies`` of them in turn
    serve as many equal groups of channels. ``pool`` averages the map to that grid.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``2 C h`` parameters for ``h = max(1, C // reduction)``, no biases, and ``C size^2`` constants;
        ``C size^2 + 2 C h`` multiply-adds a sample and one averaging pass over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives.
        frequencies: how many of the best components there are, 1 to 32 (paper: 16). With 1, the mean alone.
        size: the side of the grid, a multiple of 7; the authors take the side of the map at 224 where there is one:
            56, 28, 14, 7 in the stages of a ResNet.

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive, ``frequencies`` is not in 1 to 32, or
            ``size`` is not a positive multiple of 7.

    Example:
        >>> import torch
        >>> FCA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Qin et al., "FcaNet", ICCV 2021, https://arxiv.org/abs/2012.11879, sections 3.2, 3.3 (two-step selection).
        Code: cfzd/FcaNet (MIT), ``top16``; as there the constants are kept with the weights and the frequencies
        grow with the grid, so that they are those of a 7x7 map. Differences: the grid is 7x7 in all
        stages unless ``size`` says otherwise; the layers are 1x1 convolutions; channels that the
        frequencies do not divide form groups as equal as can be (authors: refused); fewer than
        ``reduction`` channels keep one hidden unit; the transform is taken in fp32.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {"resnet": Place("residual", "authors' model/fcanet.py: after the last norm")}

    def __init__(
        self, channels: int, *, reduction: int = 16, hidden: int | None = None, frequencies: int = 16, size: int = 7
    ) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if not 1 <= frequencies <= 32:
            raise UsageError(f"frequencies must be 1 to 32, got {frequencies}")
        if size < 1 or size % 7:
            raise UsageError(f"size must be a positive multiple of 7, got {size}")
        hidden = hidden or max(1, channels // reduction)
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.basis: Tensor
        self.register_buffer("basis", _basis(channels, frequencies, size))
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights, with their constants (``dct_layer.weight``) or without."""
        own = translated(state, {"dct_layer.weight": "basis", "fc.0": "squeeze", "fc.2": "excite"})
        hidden, channels = own["squeeze.weight"].shape[:2]
        if "basis" in own:
            keywords["size"] = own["basis"].shape[-1]
        block = cls(channels, hidden=hidden, **keywords)
        return filled(block, {"basis": block.basis, **own})

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        spectrum = (widen(self.pool(x)) * self.basis).sum(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.excite(self.relu(self.squeeze(spectrum.type_as(x)))).sigmoid()
        return (self.channel(gate),)


def _basis(channels: int, frequencies: int, size: int) -> Tensor:
    """Return each channel's function ``(C, size, size)`` of the orthonormal cosine transform."""
    pairs = [[int(u) for u in pair] for pair in RANKED.split()[:frequencies]]
    frequency = torch.tensor(pairs, dtype=torch.float64).unsqueeze(-1) * (size // 7)  # (frequencies, 2, 1)
    phase = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    scale = torch.where(frequency == 0, 1 / size, 2 / size).sqrt()
    along_h, along_w = (scale * (frequency * phase).cos()).unbind(1)
    group = torch.arange(channels) * frequencies // channels
    return torch.einsum("kh,kw->khw", along_h, along_w)[group].float()
