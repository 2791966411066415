"""Gather-excite: context gathered over a wide extent gates the positions that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from visattn.attention._contract import AbstractGate, MapTap, Place
from visattn.attention._reference import filled, needed, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError, unknown

Gather = Literal["mean", "conv"]
Excite = Literal["none", "mlp"]


@final
class GE(AbstractGate):
    r"""Weigh each channel around each position by what was gathered in a window about it.

    ``y = x * sigmoid(up(f(gather(x))))``, where ``up`` repeats each gathered value over its cell.
    An extent ``e`` gathers by windows of ``2e - 1`` positions at every ``e``-th; extent 0 gathers the whole map.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``gate``: for extent 0 (channel) ``(N, C, 1, 1)``, else (full) ``(N, C, H, W)``; in ``(0, 1)``.

    Cost:
        Gathering: no parameter for ``mean``; ``11 C log2(e)`` for ``conv``, or ``C size^2 + 2 C`` for
        extent 0. The perceptron ``mlp``: ``2 C h + h + C`` for ``h = max(1, C // reduction)``. One pass
        over ``x`` gathers, one multiplies.

    Args:
        channels: ``C``, the channels of the features attended to.
        extent: the ratio of the map's side to the gathered map's: 2, 4, 8, ..., or 0 for the whole map.
        gather: ``mean`` averages (the paper's theta-minus); ``conv`` stacks ``log2(extent)`` depthwise
            3x3 convolutions of stride 2, with batch norms and ReLUs between them (theta).
        excite: ``mlp`` passes what was gathered through a bottleneck of 1x1 convolutions (with ``conv``:
            theta-plus; with ``mean`` and extent 0: squeeze-and-excitation); ``none`` uses it as it is.
        reduction: divides the channels between the perceptron's layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives.
        size: the side of the depthwise convolution that gathers a whole map; the paper takes the side
            of the map: 56, 28, 14, 7 in the stages of a ResNet at 224. A map of another size is averaged to it.

    Raises:
        UsageError: ``channels``, ``reduction``, ``hidden`` or ``size`` is not positive, ``extent`` is neither 0 nor
            a power of 2 from 2 on, or ``gather`` or ``excite`` is an unknown word.

    Example:
        >>> import torch
        >>> GE(64, extent=4, gather="conv", excite="mlp")(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Hu et al., "Gather-Excite", NeurIPS 2018, https://arxiv.org/abs/1810.12348, sections 2, 3.
        Code: hujie-frank/GENet has no licence and no weights; this file is written from the paper and
        compared with timm's ``GatherExcite`` (Apache-2.0), from where the padding is: zeros for ``conv``,
        and positions outside count in no mean. Differences: no ReLU follows the last norm, as in timm;
        a convolution over the whole map takes maps of any size by averaging them to its own; fewer
        than ``reduction`` channels keep one hidden unit.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {"resnet": Place("residual", "figure 9: on the residual branch, before the addition")}

    def __init__(
        self,
        channels: int,
        *,
        extent: int = 0,
        gather: Gather = "mean",
        excite: Excite = "none",
        reduction: int = 16,
        hidden: int | None = None,
        size: int = 7,
    ) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden, "size": size}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        for name, word, words in (("gather", gather, get_args(Gather)), ("excite", excite, get_args(Excite))):
            if word not in words:
                raise unknown(name, word, words)
        if extent < 0 or extent == 1 or extent & (extent - 1):
            raise UsageError(f"extent must be 0 or a power of 2 from 2 on, got {extent}")
        self.extent = extent
        self.fit = nn.AdaptiveAvgPool2d(size) if gather == "conv" and not extent else nn.Identity()
        self.gather = _means(extent) if gather == "mean" else _convolutions(channels, extent, size)
        self.mlp = nn.Sequential()
        if excite == "mlp":
            hidden = hidden or max(1, channels // reduction)
            self.mlp.extend([nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)])
        self.gate = MapTap("full" if extent else "channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take timm's weights; a form without weights needs ``channels`` and ``extent`` as keywords."""
        names = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
        for i in range(len(state)):
            names |= {f"gather.conv{i + 1}": f"gather.{3 * i}", f"gather.norm{i + 1}": f"gather.{3 * i + 1}"}
        own = translated(state, names)
        found: dict[str, Any] = {}
        if convs := [value for key, value in own.items() if key.startswith("gather.") and value.ndim == 4]:
            side = convs[0].shape[-1]  # 3 may mean a whole map of 3x3 too: then say ``extent=0``
            extent = 2 ** len(convs) if side == 3 else 0
            found = {"gather": "conv", "channels": len(convs[0]), "size": side, "extent": extent}
        if "mlp.0.weight" in own:
            hidden, channels = own["mlp.0.weight"].shape[:2]
            found |= {"excite": "mlp", "channels": channels, "hidden": hidden}
        found |= keywords
        return filled(cls(needed(found.pop("channels", None)), **found), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate ``(N, C, 1, 1)``, or ``(N, C, H, W)`` if the extent is limited."""
        gate = self.mlp(self.gather(self.fit(x))).sigmoid()  # (N, C, ceil(H / extent), ceil(W / extent))
        if self.extent:
            gate = F.interpolate(gate, size=x.shape[-2:])
        return (self.gate(gate),)


def _means(extent: int) -> nn.Module:
    if not extent:
        return nn.AdaptiveAvgPool2d(1)
    return nn.AvgPool2d(2 * extent - 1, stride=extent, padding=extent - 1, count_include_pad=False)


def _convolutions(channels: int, extent: int, size: int) -> nn.Sequential:
    if not extent:
        return nn.Sequential(
            nn.Conv2d(channels, channels, size, groups=channels, bias=False), PooledBatchNorm2d(channels)
        )
    layers: list[nn.Module] = []
    while extent > 1:
        conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        layers += [conv, PooledBatchNorm2d(channels), nn.ReLU()]
        extent //= 2
    return nn.Sequential(*layers[:-1])
