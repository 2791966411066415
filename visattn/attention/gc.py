"""Global context: one summary of the whole map, added to every position."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor, nn

from visattn.attention._contract import AbstractTransform, MapTap, Place
from visattn.ops import widen
from visattn.types import UsageError


@final
class GC(AbstractTransform):
    r"""Pool the positions by learnt weights, pass the context through a bottleneck, add it everywhere.

    ``alpha = softmax_HW(w^T x)``; ``c = sum_i alpha_i x_i``;
    ``y = x + W2 relu(layernorm(W1 c + b1)) + b2``, where ``W2`` and ``b2`` start at 0.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``spatial`` (softmax): ``(N, 1, H, W)``, which sums to 1.

    Cost:
        ``2 C h + 2 C + 3 h`` parameters for ``h = max(4, C // reduction)`` hidden units; ``2 C H W + 2 C h``
        multiply-adds, two reading passes and one addition over ``x``.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the bottleneck's layers (paper: 16); at least 4 units remain.

    Raises:
        UsageError: ``channels`` or ``reduction`` is not positive.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 64, 7, 7)
        >>> torch.equal(GC(64)(x), x)
        True

    References:
        Cao et al., "GCNet", ICCV workshops 2019, https://arxiv.org/abs/1904.11492, section 3.3.
        Code: xvjiarui/GCNet and mmcv's ``ContextBlock`` (Apache-2.0): pooling "att", fusion "channel_add".
        Differences: ``w`` has no bias, which the softmax would cancel (drop ``conv_mask.bias`` of
        their weights); four hidden units at least (a layer norm turns one value into 0 and two
        into -1 and 1, whatever they were); the softmax is taken in fp32.
    """

    family: ClassVar = "global"
    paper: ClassVar = {
        "resnet": Place("residual", "section 4.1 and authors' resnet.py: after the last norm", stages=(2, 3, 4))
    }

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__(channels)
        if reduction < 1:
            raise UsageError(f"reduction must be at least 1, got {reduction}")
        hidden = max(4, channels // reduction)
        self.score = nn.Conv2d(channels, 1, 1, bias=False)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.spatial = MapTap("spatial", softmax=True)
        nn.init.kaiming_normal_(self.score.weight, nonlinearity="relu")
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Set the last layer to 0, as the paper does: the block then adds 0 and takes no strength."""
        # a strength of 0 in front of a layer of 0 would leave both without a gradient for ever
        nn.init.zeros_(self.excite.weight)
        if self.excite.bias is not None:
            nn.init.zeros_(self.excite.bias)

    def transform(self, x: Tensor) -> Tensor:
        """Return ``x`` with the context's term added."""
        scores = widen(self.score(x))  # (N, 1, H, W)
        weights = self.spatial(scores.flatten(2).softmax(dim=2).view_as(scores))
        context = x.flatten(2) @ weights.flatten(2).transpose(1, 2).type_as(x)  # (N, C, 1)
        term = self.excite(self.relu(self.norm(self.squeeze(context.unsqueeze(-1)))))  # (N, C, 1, 1)
        return x + term
