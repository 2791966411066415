"""Selective kernel: branches of growing kernels, mixed channel by channel from their joint channel means."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d, widen
from visattn.types import UsageError


@final
class SK(AbstractTransform):
    r"""Let each channel choose between convolutions of different kernels.

    ``u_i = relu(norm(conv_i(x)))`` for ``M`` branches; ``z = relu(norm(W mean_HW(sum_i u_i)))``;
    ``a = softmax_i(A_i z)``; ``y = sum_i a_i * u_i``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - maps ``kernel.3``, ``kernel.5``, ...: each ``(N, C, 1, 1)`` in ``(0, 1)``, the weight of the branch
          with this kernel; a channel's weights sum to 1 over the branches.

    Cost:
        ``9 M C R / G + 2 M C + C h + 2 h + M C h`` parameters, where a branch reads ``R`` channels in ``G``
        groups and ``h = max(32, C // reduction)``; ``9 M C R H W / G`` multiply-adds a sample and ``M``
        maps of features in place of one.

    Args:
        channels: ``C``, the channels of the features attended to.
        branches: ``M``, kernels of side 3, 5, 7 ... (paper: 2).
        reduction: divides the channels in the layer that is shared by the branches (paper: 16); at least
            32 units remain.
        groups: of each convolution (paper: 32); narrower or odd features take ``gcd(R, groups)``.
        dilated: larger kernels are 3x3 ones with gaps, as in the paper's networks (timm's ``keep_3x3``).
        split_input: each branch reads its own ``C / M`` channels and not all of them (timm's default).
        hidden: ``h`` itself, for weights whose width no reduction gives (timm rounds to multiples of 8).

    Raises:
        UsageError: a number is not positive, ``branches`` is below 2, or the input is to be split and
            ``branches`` does not divide ``channels``.

    Example:
        >>> import torch
        >>> SK(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Li et al., "Selective Kernel Networks", CVPR 2019, https://arxiv.org/abs/1903.06586, section 3.1.
        Code: timm's ``SelectiveKernel`` (Apache-2.0); the authors' is Caffe. As in both, no convolution
        has a bias. Differences: in the paper and in timm it takes the place of a 3x3 convolution, here
        it stands behind that one, which keeps its weights; ``C`` channels come in and go out, and there
        is no stride; ``groups`` adapts to ``channels``; a single pooled vector in training is normalised
        by the running statistics. timm splits the input and uses one group unless it is told otherwise.
    """

    family: ClassVar = "branch"
    paper: ClassVar = {
        "resnet": Place(r"re:(.*\.)?layer\d\.\d+\.conv2", "section 3.2, table 1: there in place of the 3x3 convolution")
    }

    def __init__(
        self,
        channels: int,
        *,
        branches: int = 2,
        reduction: int = 16,
        groups: int = 32,
        dilated: bool = True,
        split_input: bool = False,
        hidden: int | None = None,
    ) -> None:
        super().__init__(channels)
        least = {"branches": (branches, 2), "reduction": (reduction, 1), "groups": (groups, 1), "hidden": (hidden, 1)}
        for name, (value, limit) in least.items():
            if value is not None and value < limit:
                raise UsageError(f"{name} must be at least {limit}, got {value}")
        if split_input and channels % branches:
            raise UsageError(f"channels must be a multiple of {branches} (branches), got {channels}")
        self.width = channels // branches if split_input else channels
        self.starts = [i * self.width if split_input else 0 for i in range(branches)]
        hidden = hidden or max(32, channels // reduction)
        steps = range(1, branches + 1)
        self.branches = nn.ModuleList(_branch(self.width, channels, i, groups, dilated=dilated) for i in steps)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = PooledBatchNorm2d(hidden)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels * branches, 1, bias=False)
        self.kernel = nn.ModuleDict({str(2 * i + 1): MapTap("channel") for i in steps})

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of timm's ``SelectiveKernel``; ``split_input`` is not told by them."""
        paths = range(sum(key.endswith(".conv.weight") for key in state))
        own = translated(
            state,
            {
                **{f"paths.{i}.conv": f"branches.{i}.0" for i in paths},
                **{f"paths.{i}.bn": f"branches.{i}.1" for i in paths},
                "attn.fc_reduce": "squeeze",
                "attn.bn": "norm",
                "attn.fc_select": "excite",
            },
        )
        hidden, channels = own["squeeze.weight"].shape[:2]
        last = own[f"branches.{paths[-1]}.0.weight"]  # (C, R / G, side, side)
        groups = channels // (len(paths) if keywords.get("split_input") else 1) // last.shape[1]
        dilated = last.shape[-1] == 3
        block = cls(channels, branches=len(paths), groups=groups, dilated=dilated, hidden=hidden, **keywords)
        return filled(block, own)

    def transform(self, x: Tensor) -> Tensor:
        """Return the branches' features, mixed by the weights of their channels."""
        starts = zip(self.branches, self.starts, strict=True)
        features = [branch(x.narrow(1, start, self.width)) for branch, start in starts]
        means = torch.stack([one.mean(dim=(2, 3), keepdim=True) for one in features])  # (M, N, C, 1, 1)
        logits = widen(self.excite(self.relu(self.norm(self.squeeze(means.sum(0))))))
        weights = logits.view(x.shape[0], len(self.starts), self.channels, 1, 1).softmax(dim=1)
        taps = zip(features, self.kernel.values(), strict=True)
        mixed = [one * tap(weights[:, i]).type_as(one) for i, (one, tap) in enumerate(taps)]
        return sum(mixed[1:], mixed[0])


def _branch(inputs: int, outputs: int, step: int, groups: int, *, dilated: bool) -> nn.Sequential:
    side, dilation = (3, step) if dilated else (2 * step + 1, 1)
    conv = nn.Conv2d(inputs, outputs, side, padding=step, dilation=dilation, groups=gcd(inputs, groups), bias=False)
    return nn.Sequential(conv, PooledBatchNorm2d(outputs), nn.ReLU())
