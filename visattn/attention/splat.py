"""Split attention: copies of the features through one convolution, mixed channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d, widen
from visattn.types import UsageError


@final
class Splat(AbstractTransform):
    r"""Let each channel choose between the splits that one grouped convolution makes.

    ``u = relu(norm(conv(x)))`` has ``radix`` splits ``u_i`` of ``C`` channels;
    ``z = relu(norm(W1 mean_HW(sum_i u_i)))``; ``a = softmax_i(W2 z + b)``; ``y = sum_i a_i * u_i``.
    A radix of 1 has nothing to choose from: ``a = sigmoid(W2 z + b)``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - maps ``split.0``, ``split.1``, ...: each ``(N, C, 1, 1)`` in ``(0, 1)``, the weight of the split; a
          channel's weights sum to 1 over the splits (radix 1: no sum).

    Cost:
        ``9 C^2 R / G + 2 R C + (C h + h R C) / cardinality + 2 h + R C`` parameters for ``R = radix``,
        ``G = R cardinality`` groups and ``h = max(32, C R // reduction)``; ``9 C^2 R H W / G`` multiply-adds a
        sample and ``R`` maps of features in place of one.

    Args:
        channels: ``C``, the channels of the features attended to.
        radix: ``R``, the splits (paper: 2).
        cardinality: the groups that are weighed apart (paper: 1); must divide ``channels``.
        reduction: divides ``C R`` in the layer that is shared by the splits (paper: 4); at least 32 units
            remain, rounded up to a multiple of ``cardinality``.
        hidden: ``h`` itself, for weights whose width no reduction gives (timm rounds to multiples of 8).

    Raises:
        UsageError: a number is not positive, or ``cardinality`` does not divide ``channels`` or ``hidden``.

    Example:
        >>> import torch
        >>> Splat(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Zhang et al., "ResNeSt: Split-Attention Networks", CVPR workshops 2022,
        https://arxiv.org/abs/2004.08955, section 3, figures 2 and 3.
        Code: zhanghang1989/ResNeSt (Apache-2.0), ``resnest/torch/models/splat.py``, and timm's ``SplitAttn``,
        which is equal. Differences: there it takes the place of a 3x3 convolution, here it stands behind
        that one, which keeps its weights; ``C`` channels come in and go out, and there is no stride; where
        ``G`` does not divide ``C`` the convolution takes ``gcd(C, G)`` groups; ``W1`` has no bias, which
        the norm behind it would cancel (that of their weights goes into the norm's running mean); a
        single pooled vector in training is normalised by the running statistics. No drop block, no
        rectified convolution.
    """

    family: ClassVar = "branch"
    paper: ClassVar = {
        "resnet": Place(
            r"re:(.*\.)?layer\d\.\d+\.conv2", "authors' resnet.py: there in place of a bottleneck's 3x3 convolution"
        )
    }

    def __init__(
        self, channels: int, *, radix: int = 2, cardinality: int = 1, reduction: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__(channels)
        for name, value in {
            "radix": radix,
            "cardinality": cardinality,
            "reduction": reduction,
            "hidden": hidden,
        }.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if hidden is None:
            hidden = -(-max(32, channels * radix // reduction) // cardinality) * cardinality
        for name, value in {"channels": channels, "hidden": hidden}.items():
            if value % cardinality:
                raise UsageError(f"{name} must be a multiple of {cardinality} (cardinality), got {value}")
        self.radix = radix
        self.cardinality = cardinality
        splits, groups = channels * radix, gcd(channels, radix * cardinality)
        self.conv = nn.Conv2d(channels, splits, 3, padding=1, groups=groups, bias=False)
        self.norm = PooledBatchNorm2d(splits)
        self.relu = nn.ReLU()
        self.squeeze = nn.Conv2d(channels, hidden, 1, groups=cardinality, bias=False)
        self.squeeze_norm = PooledBatchNorm2d(hidden)
        self.excite = nn.Conv2d(hidden, splits, 1, groups=cardinality)
        self.split = nn.ModuleList(MapTap("channel") for _ in range(radix))

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``SplAtConv2d`` or of timm's ``SplitAttn``."""
        own = translated(
            state, {"conv": "conv", "bn0": "norm", "fc1": "squeeze", "bn1": "squeeze_norm", "fc2": "excite"}
        )
        if (mean := "squeeze_norm.running_mean") in own:
            own[mean] = own[mean] - own.pop("squeeze.bias", 0)
        hidden, inputs = own["squeeze.weight"].shape[:2]  # C / cardinality inputs
        splits, cardinality = len(own["excite.weight"]), hidden // own["excite.weight"].shape[1]
        channels = inputs * cardinality
        block = cls(channels, radix=splits // channels, cardinality=cardinality, hidden=hidden, **keywords)
        return filled(block, own)

    def transform(self, x: Tensor) -> Tensor:
        """Return the splits of the convolved features, mixed by the weights of their channels."""
        features = self.relu(self.norm(self.conv(x)))  # (N, R C, H, W)
        means = features.mean(dim=(2, 3), keepdim=True).view(x.shape[0], self.radix, self.channels, 1, 1).sum(1)
        logits = widen(self.excite(self.relu(self.squeeze_norm(self.squeeze(means)))))  # (N, R C, 1, 1)
        # the second layer is grouped, so the splits of each of its groups lie together
        grouped = logits.view(x.shape[0], self.cardinality, self.radix, -1, 1, 1)
        logits = grouped.transpose(1, 2).flatten(2, 3)  # (N, R, C, 1, 1)
        weights = logits.softmax(dim=1) if self.radix > 1 else logits.sigmoid()
        splits = [features.narrow(1, i * self.channels, self.channels) for i in range(self.radix)]
        taps = zip(splits, self.split, strict=True)
        mixed = [one * tap(weights[:, i]).type_as(one) for i, (one, tap) in enumerate(taps)]
        return sum(mixed[1:], mixed[0])
