"""Channel squeeze and spatial excitation: each position weighed from its own channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated


@final
class SSE(AbstractGate):
    r"""Weigh each position by a weighted sum of its channels.

    ``y = x * sigmoid(w^T x + b)``, with the same ``w`` and ``b`` at every position.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``spatial``: ``(N, 1, H, W)`` in ``(0, 1)``.

    Cost:
        ``C + 1`` parameters; ``C H W`` multiply-adds and one product over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.

    Raises:
        UsageError: ``channels`` is not positive.

    Example:
        >>> import torch
        >>> SSE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Roy et al., "Concurrent spatial and channel squeeze & excitation in fully convolutional
        networks", MICCAI 2018, https://arxiv.org/abs/1803.02579, section 2.
        Code: ai-med/squeeze_and_excitation (MIT), ``SpatialSELayer``. As there, the squeeze has a bias,
        which the paper leaves out. Differences: no foreign weights for few-shot learning in its place.
    """

    family: ClassVar = "spatial"
    paper: ClassVar = {"densenet": Place("stages", "figure 1: after each encoder block of the F-CNN")}

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.squeeze = nn.Conv2d(channels, 1, 1)
        self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``SpatialSELayer`` or of ``sSE`` in segmentation_models.pytorch."""
        own = translated(state, {"conv": "squeeze"}, {"0": "squeeze"})
        return filled(cls(own["squeeze.weight"].shape[1], **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the spatial gate ``(N, 1, H, W)``."""
        return (self.spatial(self.squeeze(x).sigmoid()),)
