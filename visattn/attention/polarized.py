"""Polarized self-attention: a channel gate and a spatial gate, each from the other axis kept whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError, unknown

LAYOUTS = ("parallel", "sequential")
FORMS = ("code", "paper")


@final
class Polarized(AbstractTransform):
    r"""Weigh channels from a softmax over positions, and positions from a summary of the channels.

    ``Mc(x) = sigmoid(excite(Wv sum_HW(x * softmax_HW(wq x))))``; ``Ms(x) = sigmoid(q^T Uv x)`` with
    ``q = Uq mean_HW(x)``. ``parallel``: ``y = x * (Mc(x) + Ms(x))``; ``sequential``: ``y = z * Ms(z)`` for
    ``z = x * Mc(x)``. ``Ms`` holds one more softmax: in the ``paper`` over the channels of ``q``; in the
    ``code`` over positions, of ``q^T Uv x`` if parallel and of ``Uv x`` if sequential.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``; map ``spatial``: ``(N, 1, H, W)`` in ``(0, 1)``.

    Cost:
        ``4 C h + C`` parameters for ``h = max(1, C // 2)``, ``2 C`` more in the ``paper``'s form;
        ``3 C h + C + h m + C m + 3 m + C`` in the ``code``'s sequential one with ``m`` hidden units.
        ``(C h + 2 C + h) H W`` multiply-adds.

    Args:
        channels: ``C``, the channels of the features attended to.
        layout: ``parallel`` or ``sequential``.
        form: ``code`` as in the authors' networks and weights, or ``paper`` as in the equations.
        hidden: ``m`` itself, for weights of narrow layers; ``None`` is ``max(4, h // 4)``.

    Raises:
        UsageError: ``channels`` or ``hidden`` is not positive, or ``layout`` or ``form`` is unknown.

    Example:
        >>> import torch
        >>> Polarized(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Liu et al., "Polarized self-attention: Towards high-quality pixel-wise regression", 2021,
        https://arxiv.org/abs/2107.00782, section 3.
        Code: DeLightCMU/PSA (Apache-2.0), ``network/PSA.py``: ``PSA_p`` and ``PSA_s``. Where the paper's ``excite`` is
        a layer and a layer norm, theirs is a layer (parallel), or two with a layer norm between
        (sequential); the softmaxes differ as said. Behind theirs the parallel spatial gate lies between
        1/2 and ``sigmoid(1)``, close to 1/2 on a large map.
        Differences: means and sums over positions are taken before the linear layers, which gives the
        same for less; ``m`` is 4 at least (a layer norm turns one value into 0 and two into -1 and 1, whatever
        they were); one channel keeps ``h = 1``.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {
        "resnet": Place(
            r"before:re:(.*\.)?layer\d\.\d+\.conv3",
            "authors' hrnetv2.py, basic blocks: behind the first 3x3 convolution, its norm and ReLU",
        )
    }

    def __init__(
        self,
        channels: int,
        *,
        layout: Literal["parallel", "sequential"] = "parallel",
        form: Literal["code", "paper"] = "code",
        hidden: int | None = None,
    ) -> None:
        super().__init__(channels)
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        if hidden is not None and hidden < 1:
            raise UsageError(f"hidden must be at least 1, got {hidden}")
        self.layout = layout
        self.softmax_on = "query" if form == "paper" else {"parallel": "scores", "sequential": "value"}[layout]
        half = max(1, channels // 2)
        self.channel_query = nn.Conv2d(channels, 1, 1, bias=False)
        self.channel_value = nn.Conv2d(channels, half, 1, bias=False)
        self.spatial_query = nn.Conv2d(channels, half, 1, bias=False)
        self.spatial_value = nn.Conv2d(channels, half, 1, bias=False)
        for layer in (self.channel_query, self.channel_value, self.spatial_query, self.spatial_value):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.excite = nn.Sequential()
        if self.softmax_on == "value":
            hidden = hidden or max(4, half // 4)
            self.excite.extend([nn.Conv2d(half, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU()])
            self.excite.append(nn.Conv2d(hidden, channels, 1))
        else:
            self.excite.append(nn.Conv2d(half, channels, 1, bias=False))
        if form == "paper":
            self.excite.append(nn.LayerNorm([channels, 1, 1]))
        self.channel = MapTap("channel")
        self.spatial = MapTap("spatial")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights, of either layout."""
        layers = {"conv_q_right": "channel_query", "conv_v_right": "channel_value"}
        layers |= {"conv_q_left": "spatial_query", "conv_v_left": "spatial_value"}
        excite = {"conv_up": "excite.0", **{f"conv_up.{i}": f"excite.{i}" for i in (0, 1, 3)}}
        own = translated(state, {**layers, **excite})
        told: dict[str, Any] = {}
        if "excite.3.weight" in own:
            told = {"layout": "sequential", "hidden": len(own["excite.0.weight"])}
        return filled(cls(own["channel_query.weight"].shape[1], **{**told, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` times the sum of its gates, or times one after the other."""
        channel = self._channel_gate(x)
        if self.layout == "parallel":
            return x * (channel + self._spatial_gate(x)).to(x.dtype)
        weighed = x * channel.to(x.dtype)
        return weighed * self._spatial_gate(weighed).to(x.dtype)

    def _channel_gate(self, x: Tensor) -> Tensor:
        """Return ``Mc`` ``(N, C, 1, 1)``."""
        weights = widen(self.channel_query(x)).flatten(2).softmax(dim=2)  # (N, 1, HW)
        context = x.flatten(2) @ weights.transpose(1, 2).type_as(x)  # (N, C, 1)
        return self.channel(self.excite(self.channel_value(context.unsqueeze(3))).sigmoid())

    def _spatial_gate(self, x: Tensor) -> Tensor:
        """Return ``Ms`` ``(N, 1, H, W)``."""
        query = self.spatial_query(x.mean(dim=(2, 3), keepdim=True)).flatten(1).unsqueeze(1)  # (N, 1, h)
        value = self.spatial_value(x).flatten(2)  # (N, h, HW)
        if self.softmax_on == "scores":
            # scaled: the product of two large features overflows fp16, and the softmax of inf is NaN
            size = widen(query).abs().sum(dim=2, keepdim=True).detach().clamp_min(1e-30)
            scores = (widen((query / size).type_as(value) @ value) * size).softmax(dim=2)  # (N, 1, HW)
        elif self.softmax_on == "value":
            scores = query @ widen(value).softmax(dim=2).type_as(query)
        else:
            scores = widen(query).softmax(dim=2).type_as(value) @ value
        return self.spatial(widen(scores).view_as(x[:, :1]).sigmoid())
