"""Concurrent squeeze and excitation: a channel-weighed and a position-weighed copy, joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import UsageError, unknown

COMBINE = ("max", "add")


@final
class SCSE(AbstractTransform):
    r"""Weigh channels and positions apart, and keep the larger of both results at every value.

    ``y = max(x * Mc, x * Ms)`` with ``Mc = sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2)`` and
    ``Ms = sigmoid(w^T x + b)``. So a positive value takes the larger gate and a negative one the
    smaller. With ``combine="add"``: ``y = x * Mc + x * Ms``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``; map ``spatial``: ``(N, 1, H, W)`` in ``(0, 1)``.

    Cost:
        ``2 C h + h + 2 C + 1`` parameters for ``h = max(1, C // reduction)`` hidden units;
        ``C H W + 2 C h`` multiply-adds and two weighed copies of ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the layers of the channel gate (paper: 2).
        hidden: ``h`` itself, for weights whose width no reduction gives.
        combine: ``max`` as in the authors' code and journal paper, or ``add`` as in their first paper.

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive, or ``combine`` is unknown.

    Example:
        >>> import torch
        >>> SCSE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Roy et al., "Concurrent spatial and channel squeeze & excitation in fully convolutional
        networks", MICCAI 2018, https://arxiv.org/abs/1803.02579, section 2, which adds; and
        "Recalibrating fully convolutional networks", TMI 2019, https://arxiv.org/abs/1808.08127.
        Code: ai-med/squeeze_and_excitation (MIT), ``ChannelSpatialSELayer``; ``add`` is also the form of
        segmentation_models.pytorch (MIT, ``SCSEModule``, there with ``reduction=16``). As in both, the
        layers have biases. Differences: the layers are 1x1 convolutions (same weights, one more pair of
        axes), and fewer than ``reduction`` channels keep one hidden unit.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {"densenet": Place("stages", "figure 1: after each encoder block of the F-CNN")}

    def __init__(
        self, channels: int, *, reduction: int = 2, hidden: int | None = None, combine: Literal["max", "add"] = "max"
    ) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if combine not in COMBINE:
            raise unknown("combine", combine, COMBINE)
        self.combine = combine
        hidden = hidden or max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.squeeze = nn.Conv2d(channels, 1, 1)
        self.channel = MapTap("channel")
        self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' block, or of segmentation_models.pytorch's, which adds."""
        own = translated(
            state,
            {"cSE.fc1": "mlp.0", "cSE.fc2": "mlp.2", "sSE.conv": "squeeze"},
            {"cSE.1": "mlp.0", "cSE.3": "mlp.2", "sSE.0": "squeeze"},
        )
        combine = "add" if "sSE.0.weight" in state else "max"
        hidden, channels = own["mlp.0.weight"].shape[:2]
        return filled(cls(channels, **{"hidden": hidden, "combine": combine, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return both copies of ``x``, joined."""
        channel = self.channel(self.mlp(x.mean(dim=(2, 3), keepdim=True)).sigmoid())
        spatial = self.spatial(self.squeeze(x).sigmoid())
        if self.combine == "add":
            return x * channel + x * spatial
        # not x * max(channel, spatial): below 0 the larger product has the smaller gate
        return torch.maximum(x * channel, x * spatial)
