"""Context anchor attention: each value weighed from a long cross of strips around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractGate, MapTap
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d
from visattn.types import UsageError, unknown

NORMS = ("none", "batch")


@final
class CAA(AbstractGate):
    r"""Weigh each value from local means, gathered along rows and then along columns.

    ``y = x * sigmoid(conv1x1(column(row(conv1x1(avgpool7x7(x))))))``, where ``row`` and ``column`` are
    depth-wise strips of ``1 x kernel`` and ``kernel x 1``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``full``: ``(N, C, H, W)`` in ``(0, 1)``.

    Cost:
        ``2 C^2 + 2 C kernel + 4 C`` parameters (``2 C`` more with norms); ``(2 C^2 + 2 C kernel) H W``
        multiply-adds, a pooling, and one gate as large as ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        kernel: the odd length of the strips (paper: 11 in a stage's first block, 2 more in each that follows).
        norm: ``none`` as in the paper's equations and released networks, or ``batch``: a batch norm and a SiLU
            behind each 1x1 convolution, as the authors' class has by default.

    Raises:
        UsageError: ``channels`` is not positive, ``kernel`` is not odd and positive, or ``norm`` is unknown.

    Example:
        >>> import torch
        >>> CAA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Cai et al., "Poly kernel inception network", CVPR 2024, https://arxiv.org/abs/2403.06258, section 3.
        Code: NUST-Machine-Intelligence-Laboratory/PKINet (Apache-2.0), ``CAA`` in ``backbones/pkinet.py``, whose
        networks pass no norm and no activation to it. As there, zeros around the map count in its
        means and strips. Differences: it returns the gate and its caller multiplies; its strips may
        differ in length, here one ``kernel`` serves both; the norms take single values in training.
    """

    family: ClassVar = "spatial"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, kernel: int = 11, norm: Literal["none", "batch"] = "none") -> None:
        super().__init__(channels)
        if kernel < 1 or kernel % 2 == 0:
            raise UsageError(f"kernel must be odd and positive, got {kernel}")
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        side = kernel // 2
        self.pool = nn.AvgPool2d(7, stride=1, padding=3)
        self.enter = _pointwise(channels, norm)
        self.row = nn.Conv2d(channels, channels, (1, kernel), padding=(0, side), groups=channels)
        self.column = nn.Conv2d(channels, channels, (kernel, 1), padding=(side, 0), groups=channels)
        self.leave = _pointwise(channels, norm)
        self.full = MapTap("full")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the weights of the authors' block, with norms or without."""
        theirs = ("conv1.conv", "conv1.bn", "h_conv.conv", "v_conv.conv", "conv2.conv", "conv2.bn")
        ours = ("enter.0", "enter.1", "row", "column", "leave.0", "leave.1")
        own = translated(state, dict(zip(theirs, ours, strict=True)))
        norm = "batch" if "enter.1.weight" in own else "none"
        channels, kernel = own["row.weight"].shape[0], own["row.weight"].shape[-1]
        return filled(cls(channels, **{"kernel": kernel, "norm": norm, **keywords}), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the gate of every value ``(N, C, H, W)``."""
        context = self.column(self.row(self.enter(self.pool(x))))
        return (self.full(self.leave(context).sigmoid()),)


def _pointwise(channels: int, norm: str) -> nn.Sequential:
    if norm == "none":
        return nn.Sequential(nn.Conv2d(channels, channels, 1))
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(conv, PooledBatchNorm2d(channels, eps=1e-3, momentum=0.03), nn.SiLU())
