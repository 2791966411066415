"""Non-local block: each position gets a weighted sum of all positions, added to it."""  # noqa: N999 - see block_class

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledBatchNorm2d, attend_pairs, narrow, wide_matmul
from visattn.types import UsageError, unknown

Mode: TypeAlias = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
Subsample: TypeAlias = Literal["none", "before", "after"]
Norm: TypeAlias = Literal["batch", "none"]

MMCV = {"g.conv": "g", "theta.conv": "theta", "phi.conv": "phi", "concat_project.conv": "pair"}
MMCV |= {"g.0.conv": "g", "phi.0.conv": "phi", "conv_out.conv": "out", "conv_out.bn": "norm"}  # .0: before a max-pool
SLOWFAST = {"conv_g": "g", "conv_theta": "theta", "conv_phi": "phi", "conv_out": "out", "norm": "norm"}
TIMM = {"g": "g", "t": "theta", "p": "phi", "z": "out", "norm": "norm"}
CAFFE2 = {f"{name}_w": f"{name}.weight" for name in ("g", "theta", "phi", "out")}
CAFFE2 |= {f"{name}_b": f"{name}.bias" for name in ("g", "theta", "phi", "out")}
CAFFE2 |= {"bn_s": "norm.weight", "bn_b": "norm.bias", "bn_rm": "norm.running_mean", "bn_riv": "norm.running_var"}


@final
class NonLocal(AbstractTransform):
    r"""Add to each position a weighted sum of all positions, by how well the two agree.

    ``y_i = x_i + norm(out(sum_j w_ij g(x_j)))`` over the ``M`` positions ``j``; by ``mode``

    - ``embedded_gaussian``: ``w_ij = softmax_j(scale * theta(x_i) . phi(x_j))``;
    - ``gaussian``: ``w_ij = softmax_j(scale * x_i . x_j)``;
    - ``dot_product``: ``w_ij = theta(x_i) . phi(x_j) / M``;
    - ``concatenation``: ``w_ij = relu(pair([theta(x_i), phi(x_j)])) / M``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``pairwise``: ``(N, 1, HW, HW)``, the ``w_ij``; they sum to 1 over ``j`` in the first two modes and have
          no limits in the others. A subsampled ``j`` shares its weight among the positions that it pools.

    Cost:
        ``4 C I + I + 2 C`` parameters for ``I = max(1, C // reduction)``; ``4 C I HW + 2 I HW M`` multiply-adds a
        sample, ``4 C I HW + 2 I^2 HW`` with ``dot_product``, which never builds the ``HW M`` weights; the first two
        modes leave them to torch's fused attention (see ``visattn.ops.attend_pairs``). Recorded, all build them.

    Args:
        channels: ``C``, the channels of the features attended to.
        mode: how positions are compared (paper's default: ``embedded_gaussian``).
        reduction: divides the channels of ``theta``, ``phi`` and ``g`` (paper: 2).
        inner: ``I`` itself, for weights whose width no reduction gives.
        scale: multiplies the products before the softmax; ``None`` is ``I^-0.5`` for ``embedded_gaussian`` (the
            authors' code; the paper has 1) and 1 for ``gaussian``.
        subsample: max-pool the positions ``j`` by 2, ``before`` the layers ``phi`` and ``g`` (the authors' code) or
            ``after`` them (paper, mmcv).
        norm: ``batch`` after ``out``, or ``none`` (mmcv's default). The last of the two starts at 0.

    Raises:
        UsageError: ``channels``, ``reduction`` or ``inner`` is not positive, a word is unknown, or ``scale`` is given
            where there is no softmax.

    Example:
        >>> import torch, visattn.attention
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(visattn.attention.block("nonlocal", 64)(x), x)
        True

    References:
        Wang et al., "Non-local neural networks", CVPR 2018, https://arxiv.org/abs/1711.07971, section 3.
        Code: facebookresearch/video-nonlocal-net (Caffe2) and SlowFast, mmcv's ``NonLocal2d``, timm's ``NonLocalAttn``
        (all Apache-2.0). Differences: images instead of clips. Biases that change nothing are left out: ``phi``'s if a
        softmax follows, ``out``'s if the norm does, ``g``'s if both do (others' last two move into the running mean).
        Subsampling keeps the last row and column of odd sides, theirs drop them. ``pair`` is applied to its two halves
        apart, so that no pair's features are joined. timm scales by ``C^-0.5``.
    """

    family: ClassVar = "global"
    paper: ClassVar = {
        "resnet": Place(
            r"re:(.*\.)?(layer2\.[13]|layer3\.[135])", "section 5 and authors' resnet_video.py: 5 blocks, ResNet-50"
        )
    }

    def __init__(
        self,
        channels: int,
        *,
        mode: Mode = "embedded_gaussian",
        reduction: int = 2,
        inner: int | None = None,
        scale: float | None = None,
        subsample: Subsample = "none",
        norm: Norm = "batch",
    ) -> None:
        super().__init__(channels)
        for name, word, words in (("mode", mode, Mode), ("subsample", subsample, Subsample), ("norm", norm, Norm)):
            if word not in get_args(words):
                raise unknown(name, word, get_args(words))
        for name, value in {"reduction": reduction, "inner": inner}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        self.mode, self.subsample = mode, subsample
        self.softmax = mode in {"embedded_gaussian", "gaussian"}
        if scale is not None and not self.softmax:
            raise UsageError(f"scale must be None for mode {mode}, which has no softmax, got {scale}")
        inner = inner or max(1, channels // reduction)
        self.scale = scale if scale is not None else 1.0 if mode == "gaussian" else inner**-0.5
        normed = norm == "batch"
        if mode != "gaussian":
            self.theta = nn.Conv2d(channels, inner, 1)
            self.phi = nn.Conv2d(channels, inner, 1, bias=not self.softmax)
        if mode == "concatenation":
            self.pair = nn.Conv2d(2 * inner, 1, 1, bias=False)
        self.g = nn.Conv2d(channels, inner, 1, bias=not (self.softmax and normed))
        self.out = nn.Conv2d(inner, channels, 1, bias=not normed)
        self.norm = PooledBatchNorm2d(channels) if normed else nn.Identity()
        self.pairwise = MapTap("pairwise", softmax=True) if self.softmax else MapTap("pairwise", lower=None, upper=None)
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Set the norm, or the last layer without one, to 0, as the paper does: the block takes no strength."""
        # a strength of 0 in front of a factor of 0 would leave both without a gradient for ever
        for parameter in (self.out if isinstance(self.norm, nn.Identity) else self.norm).parameters():
            nn.init.zeros_(parameter)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take mmcv's, SlowFast's, timm's or (by ``theta_w``, ``bn_s``, ...) video-nonlocal-net's weights.

        No shape tells ``mode="dot_product"``, ``subsample="before"`` and timm's ``scale``: name them.
        """
        own = translated(state, MMCV, SLOWFAST, TIMM, CAFFE2)
        inner, channels = own["g.weight"].shape[:2]
        embedded = "concatenation" if "pair.weight" in own else "embedded_gaussian"
        found = {
            "mode": embedded if "theta.weight" in own else "gaussian",
            "subsample": "after" if "g.0.conv.weight" in state else "none",
            "norm": "batch" if "norm.weight" in own else "none",
        }
        block = cls(channels, inner=inner, **{**found, **keywords})
        if block.softmax:
            own.pop("phi.bias", None)
        if block.out.bias is None:
            constant = own.pop("out.bias", torch.zeros(channels))
            if block.g.bias is None and "g.bias" in own:
                constant = constant + own["out.weight"].flatten(1) @ own.pop("g.bias")
            own["norm.running_mean"] = own["norm.running_mean"] - constant
        return filled(block, own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` with the weighed positions added."""
        source = _pooled(x) if self.subsample == "before" else x
        theta, phi = (x, source) if self.mode == "gaussian" else (self.theta(x), self.phi(source))
        g = self.g(source)
        if self.subsample == "after":
            phi, g = _pooled(phi), _pooled(g)
        query, key, value = _rows(theta), _rows(phi), _rows(g)
        tap = self.pairwise if self.subsample == "none" else _Spread(self.pairwise, x)
        if self.softmax:
            mixed = attend_pairs(query, key, value, tap, scale=self.scale)  # (N, 1, HW, I)
            return x + self.norm(self.out(_image(mixed, x)))
        if self.mode == "dot_product" and not tap.watched:
            mixed = wide_matmul(query, wide_matmul(key.transpose(2, 3), value)) / value.shape[2]
        else:
            mixed = wide_matmul(tap(self._products(query, key) / value.shape[2]), value)
        # a product of three features may leave the range of fp16; the norm brings it back
        term = wide_matmul(mixed, self.out.weight.flatten(1).T)
        term = term if self.out.bias is None else term + self.out.bias
        return x + self.norm(narrow(_image(term, x), x))

    def _products(self, query: Tensor, key: Tensor) -> Tensor:
        """Return ``w_ij M`` of the modes without a softmax, ``(N, 1, HW, M)``."""
        if self.mode == "dot_product":
            return wide_matmul(query, key.transpose(2, 3))
        left, right = self.pair.weight.flatten().unsqueeze(1).chunk(2)  # (I, 1) each
        return (wide_matmul(query, left) + wide_matmul(key, right).transpose(2, 3)).relu()


class _Spread(NamedTuple):
    """A tap for weights of pooled positions: shows each shared among the positions of ``x`` that it pools."""

    tap: MapTap
    x: Tensor

    @property
    def watched(self) -> bool:
        return self.tap.watched

    def __call__(self, weights: Tensor) -> Tensor:
        if self.watched:
            h, w = self.x.shape[2:]
            each = torch.eye(h * w, dtype=weights.dtype, device=weights.device).view(h * w, 1, h, w)
            shares = F.avg_pool2d(each, 2, ceil_mode=True).flatten(1)  # (HW, M)
            self.tap(weights @ shares.T)
        return weights


def _pooled(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, ceil_mode=True)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2).unsqueeze(1)  # (N, 1, positions, channels)


def _image(rows: Tensor, x: Tensor) -> Tensor:
    return rows.squeeze(1).transpose(1, 2).reshape(x.shape[0], -1, x.shape[2], x.shape[3])
