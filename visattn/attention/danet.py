"""Dual attention: similar positions and differing channels are mixed into each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import attend_pairs, wide_matmul
from visattn.types import UsageError, unknown

PARTS = ("both", "position", "channel")


@final
class DANet(AbstractTransform):
    r"""Add to each position a mean of all positions, and to each channel a mean of all channels.

    ``y = x + gamma_p P + gamma_c Q`` with ``P_i = sum_j softmax_j(query(x_i) . key(x_j)) value(x_j)`` over positions
    and ``Q_a = sum_b softmax_b(-x_a . x_b) x_b`` over channels, ``x_a . x_b`` a sum over positions.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``pairwise`` (softmax): ``(N, 1, HW, HW)``, the weights of ``P``; rows sum to 1.
        - map ``channel``: ``(N, C, 1, 1)``, what the channels together draw from each in ``Q``: 1 on average,
          without an upper limit.

    Cost:
        ``C^2 + C + 2 C I + I + 2`` parameters for ``I = max(1, C // reduction)``, ``parts="channel"`` has 1;
        ``(C^2 + 2 C I + (C + I) HW + 2 C^2) HW`` multiply-adds a sample. ``P`` keeps no ``(HW)^2`` weights unless
        recorded, where torch's fused kernels take unequal widths (see ``visattn.ops.attend_pairs``).

    Args:
        channels: ``C``, the channels of the features attended to.
        parts: ``both``, or the ``position`` or ``channel`` part alone.
        reduction: divides the channels of queries and keys (authors' code: 8).
        inner: ``I`` itself, for weights whose width no reduction gives.

    Raises:
        UsageError: ``channels``, ``reduction`` or ``inner`` is not positive, or ``parts`` is unknown.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(DANet(64)(x), x)
        True

    References:
        Fu et al., "Dual attention network for scene segmentation", CVPR 2019, https://arxiv.org/abs/1809.02983,
        section 3, the factors alpha and beta of which start at 0.
        Code: junfu1115/DANet (MIT), ``PAM_Module`` and ``CAM_Module``, each of which gives ``x`` plus its term.
        Differences: their head feeds the two from convolutions of their own, convolves both outputs and sums them,
        so that ``x`` would count twice; here one ``x`` takes both terms. ``key`` has no bias, which the softmax would
        cancel. Their ``softmax(max_b(E_ab) - E_ab)`` of ``E = x x^T`` is ``softmax(-E)``, since a softmax ignores
        what all its inputs share; ``E`` and both softmaxes are taken in fp32. Fewer than ``reduction`` channels keep
        one query.
    """

    family: ClassVar = "global"
    paper: ClassVar = {"resnet": Place("stages", "section 3.1, figure 2: on the last stage's features", stages=(4,))}

    def __init__(
        self,
        channels: int,
        *,
        parts: Literal["both", "position", "channel"] = "both",
        reduction: int = 8,
        inner: int | None = None,
    ) -> None:
        super().__init__(channels)
        if parts not in PARTS:
            raise unknown("parts", parts, PARTS)
        for name, value in {"reduction": reduction, "inner": inner}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        inner = inner or max(1, channels // reduction)
        self.parts = parts
        if parts != "channel":
            self.query = nn.Conv2d(channels, inner, 1)
            self.key = nn.Conv2d(channels, inner, 1, bias=False)
            self.value = nn.Conv2d(channels, channels, 1)
            self.position_gamma = nn.Parameter(torch.zeros(1))
            self.pairwise = MapTap("pairwise", softmax=True)
        if parts != "position":
            self.channel_gamma = nn.Parameter(torch.zeros(1))
            self.channel = MapTap("channel", upper=None)

    def start_as_identity(self) -> None:
        """Set both gammas to 0, as the paper does: the block then adds 0 and takes no strength."""
        # a strength of 0 in front of a gamma of 0 would leave both without a gradient for ever
        for name, parameter in self.named_parameters():
            if name.endswith("_gamma"):
                nn.init.zeros_(parameter)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``PAM_Module``, of both (``sa.``, ``sc.``) or, by ``channels=``, of CAM."""
        layers = {"query_conv": "query", "key_conv.weight": "key.weight", "key_conv.bias": "", "value_conv": "value"}
        both = {f"sa.{name}": ours for name, ours in layers.items()}
        own = translated(
            state,
            {"gamma": "channel_gamma"},
            layers | {"gamma": "position_gamma"},
            both | {"sa.gamma": "position_gamma", "sc.gamma": "channel_gamma"},
        )
        if "query.weight" in own:
            found = {"parts": "both" if "channel_gamma" in own else "position", "inner": len(own["query.weight"])}
            keywords = {**found, "channels": own["query.weight"].shape[1], **keywords}
        elif "channels" not in keywords:
            raise UsageError("channels must be named for the weights of a CAM_Module, which do not tell them")
        else:
            keywords = {"parts": "channel", **keywords}
        return filled(cls(**keywords), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` with the means of positions and of channels added."""
        y = x
        if self.parts != "channel":
            y = y + self.position_gamma * self._position(x)
        if self.parts != "position":
            y = y + self.channel_gamma * self._channel(x)
        return y

    def _position(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.query, self.key, self.value)
        )  # (N, 1, HW, channels)
        return attend_pairs(query, key, value, self.pairwise).transpose(2, 3).reshape(x.shape)

    def _channel(self, x: Tensor) -> Tensor:
        features = x.flatten(2)  # (N, C, HW)
        weights = (-wide_matmul(features, features.transpose(1, 2))).softmax(dim=2)  # (N, C, C)
        if self.channel.watched:
            self.channel(weights.sum(dim=1).unsqueeze(-1).unsqueeze(-1))
        return (weights.type_as(x) @ features).view_as(x)
