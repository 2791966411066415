"""Channel prior convolutional attention: channels first, then every value by wide depth-wise strips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap
from visattn.attention._reference import filled, translated
from visattn.types import UsageError, unknown

FORMS = ("code", "paper")
STRIPS = (7, 11, 21)


@final
class CPCA(AbstractTransform):
    r"""Weigh channels from mean and maximum, then every value by a large separable neighbourhood.

    ``u = gelu(mix(x))``; ``p = u * (sigmoid(mlp(mean_HW(u))) + sigmoid(mlp(max_HW(u))))``;
    ``l = conv5x5(p)``; ``y = mix(p * mix(l + sum_k conv_kx1(conv_1xk(l))))`` for ``k = 7, 11, 21``, all
    but ``mix`` depth-wise. With ``form="paper"``: ``u = x``, one sigmoid of the sum, no last ``mix``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 2)``, in ``(0, 1)`` with ``paper``; map ``full``:
          ``(N, C, H, W)``, the second factor, without limits.

    Cost:
        ``C^2 + 2 C h + h + 112 C`` parameters for ``h = max(1, C // reduction)`` hidden units;
        ``(3 C^2 + 103 C) H W`` multiply-adds, ``(C^2 + 103 C) H W`` with ``paper``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the perceptron's layers (authors' code: 4).
        form: ``code`` as the authors' networks have it, or ``paper`` as the equations have it.

    Raises:
        UsageError: ``channels`` or ``reduction`` is not positive, or ``form`` is unknown.

    Example:
        >>> import torch
        >>> CPCA(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Huang et al., "Channel prior convolutional attention for medical image segmentation", Computers in
        Biology and Medicine 2024, https://arxiv.org/abs/2306.05196, section 3.
        Code: Cuthbert-Huang/CPCANet (Apache-2.0), ``RepBlock`` in ``network_architecture/CPCANet.py``. It differs
        from the paper in three things, for which ``form`` offers both: a 1x1 convolution and GELU before,
        a convolution after, each the same layer that mixes the strips; and a sigmoid for each
        statistic. The parameters are the same. Differences: fewer than ``reduction`` channels keep one
        hidden unit, and what overflows before the last layer counts as the largest finite number.
    """

    family: ClassVar = "mixed"
    paper: ClassVar = {}

    def __init__(self, channels: int, *, reduction: int = 4, form: Literal["code", "paper"] = "code") -> None:
        super().__init__(channels)
        if reduction < 1:
            raise UsageError(f"reduction must be at least 1, got {reduction}")
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        self.form = form
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
                nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
            )
            for k in STRIPS
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()
        self.channel = MapTap("channel", upper=2.0 if form == "code" else 1.0)
        self.full = MapTap("full", lower=None, upper=None)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors' weights."""
        strips = {
            name: f"strips.{i}.{j}"
            for i, k in enumerate(STRIPS)
            for j, name in enumerate((f"dconv1_{k}", f"dconv{k}_1"))
        }
        own = translated(state, {"ca.fc1": "mlp.0", "ca.fc2": "mlp.2", "dconv5_5": "local", "conv": "mix", **strips})
        hidden, channels = own["mlp.0.weight"].shape[:2]
        return filled(cls(channels, **{"reduction": channels // hidden, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` mixed, weighed by channel, weighed by neighbourhood and mixed."""
        code = self.form == "code"
        u = self.act(self.mix(x)) if code else x
        mean, peak = self.mlp(u.mean(dim=(2, 3), keepdim=True)), self.mlp(u.amax(dim=(2, 3), keepdim=True))
        channel = self.channel(mean.sigmoid() + peak.sigmoid() if code else (mean + peak).sigmoid())
        prior = u * channel.to(u.dtype)
        local = self.local(prior)
        summed = local
        for strip in self.strips:
            summed = summed + strip(local)
        weighed = prior * self.full(self.mix(summed))
        if not code:
            return weighed
        # what overflows in this product is taken at the dtype's largest number: the sum of inf and -inf is NaN
        largest = weighed.new_full((1,), float("inf")).nan_to_num()
        return self.mix(weighed.clamp(-largest, largest))
