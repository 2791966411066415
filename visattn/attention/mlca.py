"""Mixed local channel attention: channels weighed by their neighbours, in each patch and in the whole map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn
from torch.nn import functional as F

from visattn.attention._contract import AbstractGate, MapTap
from visattn.attention._reference import filled, needed, translated
from visattn.types import UsageError


@final
class MLCA(AbstractGate):
    r"""Weigh each channel of each patch by a 1-D convolution over neighbouring channels.

    ``P`` is ``x`` averaged to ``size`` x ``size`` patches; ``L = sigmoid(conv_1(P))`` runs along all channels
    of one patch after the other, ``G = sigmoid(conv_2(mean(P)))`` along those of the whole map;
    ``y = x * unpool(share L + (1 - share) G)``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(0, 1)``.

    Cost:
        ``2 kernel`` parameters, no biases; ``(size^2 + 1) C kernel`` multiply-adds a sample, one averaging
        pass over ``x`` and a gate of its size.

    Args:
        channels: ``C``, the channels of the features attended to.
        size: the patches along each side (paper: 5); a map may have fewer positions.
        kernel: the odd length of both convolutions; ``None`` lets the channels set it as in ECA.
        share: of the local gate in the sum, above 0 and below 1 (authors: 1/2).

    Raises:
        UsageError: ``channels`` or ``size`` is not positive, ``kernel`` is not odd and positive, or ``share`` is not
            between 0 and 1.

    Example:
        >>> import torch
        >>> MLCA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Wan et al., "Mixed local channel attention for object detection", Engineering Applications of Artificial
        Intelligence 123, 2023, https://doi.org/10.1016/j.engappai.2023.106442; the kernel's rule is ECA's,
        Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151.
        Code: wandahangFY/MLCA is under the GPL; this file is written from the paper's description, and what that
        leaves open was fitted to recorded outputs of the code: the sigmoids come before the sum and the unpooling,
        unpooling is adaptive averaging, and the local convolution does not stop between patches: the
        first channels of a patch see the last ones of the patch before. Differences: none.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, size: int = 5, kernel: int | None = None, share: float = 0.5) -> None:
        super().__init__(channels)
        if size < 1:
            raise UsageError(f"size must be at least 1, got {size}")
        if kernel is None:
            length = int((math.log2(channels) + 1) / 2)
            kernel = length if length % 2 else length + 1
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        if not 0 < share < 1:
            raise UsageError(f"share must be above 0 and below 1, got {share}")
        self.size = size
        self.share = share
        self.local = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.whole = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.full = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, channels: int | None = None, **keywords: Any) -> Self:
        """Take the authors' weights; ``channels`` must be given."""
        own = translated(state, {"conv": "whole", "conv_local": "local"})
        return filled(cls(needed(channels), kernel=own["whole.weight"].shape[-1], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every value ``(N, C, H, W)``."""
        patches = F.adaptive_avg_pool2d(x, self.size)  # (N, C, size, size)
        line = patches.flatten(2).transpose(1, 2)  # (N, size^2, C)
        local = self.local(line.flatten(1).unsqueeze(1)).view_as(line).sigmoid()
        whole = self.whole(line.mean(dim=1, keepdim=True)).sigmoid()  # (N, 1, C)
        gate = self.share * local + (1 - self.share) * whole
        gate = gate.transpose(1, 2).reshape_as(patches)
        return (self.full(F.adaptive_avg_pool2d(gate, (x.shape[2], x.shape[3]))),)
