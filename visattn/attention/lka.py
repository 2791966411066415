"""Large kernel attention: features times a decomposed large convolution of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import unknown

FORMS = ("gate", "module")
LARGEST = 65504.0  # of fp16


@final
class LKA(AbstractTransform):
    r"""Multiply each value by what a large kernel sees around it; the factor has no limits.

    ``y = x * A(x)`` with ``A(x) = conv1x1(far(near(x)))``: ``near`` is a depth-wise 5x5, ``far`` a
    depth-wise 7x7 of dilation 3, so that a value sees 23x23 positions. With ``form="module"``:
    ``y = x + P2(z * A(z))`` for ``z = gelu(P1(x))``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)``, any value.

    Cost:
        ``C^2 + 77 C`` parameters (``2 C^2 + 2 C`` more in the module); ``(C^2 + 74 C) H W``
        multiply-adds (``2 C^2 H W`` more) and one map as large as ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        form: ``gate``, the attention itself, or ``module``, it between two 1x1 convolutions ``P1`` and
            ``P2`` and beside a shortcut, as it stands in the paper's network.

    Raises:
        UsageError: ``channels`` is not positive, or ``form`` is unknown.

    Example:
        >>> import torch
        >>> LKA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Guo et al., "Visual attention network", 2022, https://arxiv.org/abs/2202.09741, section 3.1.
        Code: Visual-Attention-Network/VAN-Classification (Apache-2.0), ``models/van.py``, ``LKA`` and
        ``Attention``. As there, all convolutions have biases, which start at 0, and normal weights with
        a variance of 2 over the outputs that an input reaches; so ``A`` starts around 0, and a trained
        host needs the identity start. Differences: the module cuts ``z * A(z)`` to what fp16 holds.
        Where ``x`` is 0 the block's gradient is 0 too: behind a norm whose weight starts at 0, as the last
        one of a residual branch often does, it needs the identity start as well.
    """

    family: ClassVar = "spatial"
    paper: ClassVar = {
        "resnet": Place(
            r"re:(.*\.)?layer\d\.\d+\.conv2",
            "no CNN is named: ahead of norms that start at 0",
        )
    }

    def __init__(self, channels: int, *, form: Literal["gate", "module"] = "gate") -> None:
        super().__init__(channels)
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.enter = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU()) if form == "module" else None
        self.leave = nn.Conv2d(channels, channels, 1) if form == "module" else None
        self.full = MapTap("full", lower=None, upper=None)
        for name, value in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(value)
            else:
                nn.init.normal_(value, std=(2 / value[0].numel()) ** 0.5)  # as many in as out

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' ``LKA``, or of their ``Attention`` around it."""
        inner = {"conv0": "near", "conv_spatial": "far", "conv1": "mix"}
        whole = {f"spatial_gating_unit.{name}": own for name, own in inner.items()}
        own = translated(state, inner, {**whole, "proj_1": "enter.0", "proj_2": "leave"})
        form = "module" if "leave.weight" in own else "gate"
        return filled(cls(own["mix.weight"].shape[0], **{"form": form, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` times its attention, in the module form as a term added to ``x``."""
        z = x if self.enter is None else self.enter(x)
        weighed = z * self.full(self.mix(self.far(self.near(z))))
        # an infinite product would become NaN in the sums of the last layer
        return weighed if self.leave is None else x + self.leave(weighed.clamp(-LARGEST, LARGEST))
