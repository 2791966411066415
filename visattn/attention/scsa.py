"""Spatial and channel synergistic attention: rows and columns first, then channels by self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import EXPANDED, AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import PooledGroupNorm, widen
from visattn.types import UsageError

KERNELS = (3, 5, 7, 9)


@final
class SCSA(AbstractGate):
    r"""Weigh rows and columns at four scales, then channels by their similarity on what that leaves.

    ``g_h = sigmoid(norm_h(convs(mean_W(x))))``, ``g_w = sigmoid(norm_w(convs(mean_H(x))))``, where ``convs``
    takes each quarter of the channels with a kernel of its own: 3, 5, 7, 9.
    ``z = norm(means of the windows of x * g_h * g_w)``; ``q, k, v`` are ``z`` with one factor a channel each;
    ``g_c = sigmoid(softmax(q k^T / sqrt(d)) mean_HW(v))`` in heads of ``d`` channels; ``y = x * g_h * g_w * g_c``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``height`` (full): ``(N, C, H, 1)`` in ``(0, 1)``; map ``width`` (full): ``(N, C, 1, W)`` likewise;
          map ``channel``: ``(N, C, 1, 1)`` likewise.

    Cost:
        ``16 C`` parameters; ``6 C (H + W) + C^2 / heads (H W / window^2 + 1)`` multiply-adds, and ``C^2 / heads``
        similarities a sample.

    Args:
        channels: ``C``, the channels of the features attended to; a multiple of 4.
        heads: how many groups of channels compare among themselves (authors' networks: 1).
        window: the side of the windows (paper: 7).

    Raises:
        UsageError: ``channels``, ``heads`` or ``window`` is not positive, or 4 or ``heads`` does not
            divide ``channels``.

    Example:
        >>> import torch
        >>> SCSA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Si et al., "SCSA: Exploring the synergistic effects between spatial and channel attention",
        Neurocomputing 2025, https://arxiv.org/abs/2407.05128, section 3.
        Code: HZAI-ZJNU/SCSA (Apache-2.0), ``mmpretrain/models/attentions/SCSA.py``, in the form of its configs:
        sigmoids, windows by means, factors without biases, no dropout. As there, what is left beside
        whole windows goes unseen by the channels' gate. Differences: a map with a side below ``window`` is
        pooled in windows of that side (their pooling fails on it), and the mean over ``v`` is taken before
        the product, which gives the same for less.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {
        "resnet": Place(
            r"before:re:(.*\.)?layer\d\.\d+\.conv3", "authors' resnet_scsa.py: behind conv2, norm and ReLU"
        ),
        "mobilenet": Place(
            EXPANDED.replace("(.*", r"(.*\.)?(blocks\.0\.\d+\.conv_pw|features\.1\.conv\.1)|(.*", 1),
            "authors' mobilenet_v2_scsa.py: after the depth-wise convolution",
        ),
    }

    def __init__(self, channels: int, *, heads: int = 1, window: int = 7) -> None:
        super().__init__(channels)
        for name, value in {"heads": heads, "window": window}.items():
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        for name, divisor in {"one quarter a kernel": 4, "heads": heads}.items():
            if channels % divisor:
                raise UsageError(f"channels must be a multiple of {divisor} ({name}), got {channels}")
        self.heads = heads
        self.window = window
        quarter = channels // 4
        self.convs = nn.ModuleList(nn.Conv1d(quarter, quarter, k, padding=k // 2, groups=quarter) for k in KERNELS)
        self.height_norm = PooledGroupNorm(4, channels)
        self.width_norm = PooledGroupNorm(4, channels)
        self.norm = PooledGroupNorm(1, channels)
        self.query = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.height = MapTap("full")
        self.width = MapTap("full")
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights."""
        convs = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")
        names = {"norm_h": "height_norm", "norm_w": "width_norm", "q": "query", "k": "key", "v": "value"}
        own = translated(state, {**{conv: f"convs.{i}" for i, conv in enumerate(convs)}, **names, "norm": "norm"})
        return filled(cls(len(own["norm.weight"]), **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gates of rows ``(N, C, H, 1)``, of columns ``(N, C, 1, W)``, of channels ``(N, C, 1, 1)``."""
        height = self._scales(x.mean(dim=3), self.height_norm).unsqueeze(3)
        width = self._scales(x.mean(dim=2), self.width_norm).unsqueeze(2)
        channel = self._similar(x * height.to(x.dtype) * width.to(x.dtype))
        return self.height(height), self.width(width), self.channel(channel)

    def _scales(self, means: Tensor, norm: nn.Module) -> Tensor:
        """Return the gate for the ``means`` ``(N, C, L)`` along an axis."""
        quarters = means.chunk(4, dim=1)
        parts = [conv(quarters[i]) for i, conv in enumerate(self.convs)]
        # as the norm would, which refuses a single value
        normed = norm(torch.cat(parts, dim=1))
        return normed.sigmoid()

    def _similar(self, x: Tensor) -> Tensor:
        """Return the gate of the channels ``(N, C, 1, 1)``."""
        # min() would break FX tracing
        h, w = (torch.sym_min(self.window, size) for size in (x.shape[2], x.shape[3]))
        rows, columns = x.shape[2] // h, x.shape[3] // w
        whole = x[:, :, : rows * h, : columns * w].reshape(-1, self.channels, rows, h, columns, w)
        normed = self.norm(whole.mean(dim=(3, 5)))
        query, key, value = (
            torch.unflatten(part(normed).flatten(2), 1, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )  # (N, heads, d, windows) each
        scores = widen(query @ key.transpose(2, 3)) * (self.channels // self.heads) ** -0.5  # (N, heads, d, d)
        weighed = scores.softmax(dim=3) @ widen(value).mean(dim=3, keepdim=True)  # (N, heads, d, 1)
        return weighed.flatten(1, 2).unsqueeze(3).sigmoid()
