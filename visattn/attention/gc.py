"""Global context: one summary of the whole map changes every position alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.ops import widen
from visattn.types import UsageError, unknown

FUSIONS = ("add", "mul")
POOLINGS = ("att", "avg")

THEIRS = (  # score, then the bottleneck and its layers
    ("conv_mask", "channel_add_conv", "0", "1", "3"),
    ("conv_mask", "channel_mul_conv", "0", "1", "3"),
    ("conv_attn", "mlp_add", "fc1", "norm", "fc2"),
    ("conv_attn", "mlp_scale", "fc1", "norm", "fc2"),
)


@final
class GC(AbstractTransform):
    r"""Pool the positions by learnt weights, pass the context through a bottleneck, add or multiply it everywhere.

    ``alpha = softmax_HW(w^T x)``; ``c = sum_i alpha_i x_i``; ``t = W2 relu(layernorm(W1 c + b1)) + b2``;
    ``y = x + t``, where ``W2`` and ``b2`` start at 0, or ``y = x * sigmoid(t)``.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``spatial`` (softmax), if ``pooling="att"``: ``(N, 1, H, W)``, which sums to 1.
        - map ``channel``, if ``fusion="mul"``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``2 C h + 2 C + 3 h`` parameters for ``h = max(4, C // reduction)`` hidden units, ``C`` fewer without ``w``;
        ``2 C H W + 2 C h`` multiply-adds, two reading passes and one addition over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the bottleneck's layers (paper: 16); at least 4 units remain.
        hidden: ``h`` itself, for weights whose width no reduction gives.
        pooling: ``att`` weighs positions, ``avg`` is their mean (mmcv).
        fusion: ``add`` the term, or multiply by its sigmoid (mmcv's ``channel_mul``, timm's ``gc``).
        eps: is added to the layer norm's variance (authors' code, mmcv: 1e-5; timm: 1e-6).

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive, ``eps`` is negative or a word is unknown.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(GC(64)(x), x)
        True

    References:
        Cao et al., "GCNet", ICCV workshops 2019, https://arxiv.org/abs/1904.11492, section 3.3.
        Code: xvjiarui/GCNet and mmcv's ``ContextBlock`` (Apache-2.0); timm's ``GlobalContext`` (Apache-2.0).
        Differences: ``w`` has no bias, which the softmax would cancel; four hidden units at least (a layer norm turns
        one value into 0 and two into -1 and 1, whatever they were); the softmax is taken in fp32; to multiply, ``W2``
        and ``b2`` start at random as timm's do, where the authors start all gates at 1/2; both fusions at once,
        which they allow, are two blocks here. timm's ``gca`` leaves ``b2`` at random: it is no identity at first.
    """

    family: ClassVar = "global"
    paper: ClassVar = {
        "resnet": Place("residual", "section 4.1 and authors' resnet.py: after the last norm", stages=(2, 3, 4))
    }

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        pooling: Literal["att", "avg"] = "att",
        fusion: Literal["add", "mul"] = "add",
        eps: float = 1e-5,
    ) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if eps < 0:
            raise UsageError(f"eps must be at least 0, got {eps}")
        for name, word, words in (("pooling", pooling, POOLINGS), ("fusion", fusion, FUSIONS)):
            if word not in words:
                raise unknown(name, word, words)
        self.pooling, self.fusion = pooling, fusion
        hidden = hidden or max(4, channels // reduction)
        if pooling == "att":
            self.score = nn.Conv2d(channels, 1, 1, bias=False)
            nn.init.kaiming_normal_(self.score.weight, nonlinearity="relu")
            self.spatial = MapTap("spatial", softmax=True)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1], eps=eps)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1)
        if fusion == "mul":
            self.channel = MapTap("channel")
        else:
            self.start_as_identity()

    def start_as_identity(self) -> None:
        """Set the last layer to 0, as the paper does: it then adds 0, without a strength. A factor takes a strength."""
        if self.fusion == "mul":
            super().start_as_identity()
            return
        # a strength of 0 in front of a layer of 0 would leave both without a gradient for ever
        nn.init.zeros_(self.excite.weight)
        if self.excite.bias is not None:
            nn.init.zeros_(self.excite.bias)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take the authors', mmcv's or timm's weights with one fusion; timm's names bring its ``eps``."""
        own = translated(state, *(_names(*names) for names in THEIRS))
        hidden, channels = own["squeeze.weight"].shape[:2]
        found = {
            "pooling": "att" if "score.weight" in own else "avg",
            "fusion": "add" if any("_add" in key for key in state) else "mul",
            "eps": 1e-6 if any(key.startswith("mlp") for key in state) else 1e-5,
        }
        return filled(cls(channels, hidden=hidden, **{**found, **keywords}), own)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` with the context's term added, or times its sigmoid."""
        term = self.excite(self.relu(self.norm(self.squeeze(self._context(x)))))  # (N, C, 1, 1)
        return x + term if self.fusion == "add" else x * self.channel(term.sigmoid())

    def _context(self, x: Tensor) -> Tensor:
        if self.pooling == "avg":
            return x.mean(dim=(2, 3), keepdim=True)
        scores = widen(self.score(x))  # (N, 1, H, W)
        weights = self.spatial(scores.flatten(2).softmax(dim=2).view_as(scores))
        return (x.flatten(2) @ weights.flatten(2).transpose(1, 2).type_as(x)).unsqueeze(-1)  # (N, C, 1, 1)


def _names(score: str, bottleneck: str, squeeze: str, norm: str, excite: str) -> dict[str, str]:
    layers = {squeeze: "squeeze", norm: "norm", excite: "excite"}
    names = {f"{bottleneck}.{theirs}": ours for theirs, ours in layers.items()}
    return {f"{score}.weight": "score.weight", f"{score}.bias": "", **names}
