"""Squeeze-and-excitation: each channel weighed from all channel means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from visattn.attention._contract import EXPANDED, AbstractGate, MapTap, Place
from visattn.attention._reference import filled, translated
from visattn.types import UsageError


@final
class SE(AbstractGate):
    r"""Weigh each channel by a two-layer perceptron on the channel means.

    ``y = x * sigmoid(W2 relu(W1 mean_HW(x) + b1) + b2)`` with ``h`` hidden units.

    Shapes:
        - input ``x``: ``(N, C, H, W)``, any float dtype; ``C`` must be ``channels``.
        - output: as the input.
        - map ``channel``: ``(N, C, 1, 1)`` in ``(0, 1)``.

    Cost:
        ``2 C h + h + C`` parameters for ``h = max(1, C // reduction)``, and as many multiply-adds a sample.

    Args:
        channels: ``C``, the channels of the features attended to.
        reduction: divides the channels between the layers (paper: 16).
        hidden: ``h`` itself, for weights whose width no reduction gives (timm rounds to multiples of 8).

    Raises:
        UsageError: ``channels``, ``reduction`` or ``hidden`` is not positive.

    Example:
        >>> import torch
        >>> SE(64)(torch.zeros(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])

    References:
        Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507, section 3.
        Code: hujie-frank/SENet (Caffe, Apache-2.0). As there, both layers have biases. Differences:
        the layers are 1x1 convolutions (same weights, one more pair of axes), and fewer than
        ``reduction`` channels keep one hidden unit.
    """

    family: ClassVar = "channel"
    paper: ClassVar = {
        "resnet": Place("residual", "section 3.3, figure 3: before the addition"),
        "inception": Place(r"re:Mixed_\d\w|inception\d\w", "section 3.3, figure 2: behind each Inception module"),
        "mobilenet": Place(EXPANDED, "Howard et al. 2019 (MobileNetV3), section 5.3: on the expansion"),
        "regnet": Place(
            r"re:(.*\.)?(s\d\.b\d+\.conv2|block\d-\d+\.f\.b\.2)",
            "Radosavovic et al. 2020 (RegNetY): behind the 3x3 convolution",
        ),
    }

    def __init__(self, channels: int, *, reduction: int = 16, hidden: int | None = None) -> None:
        super().__init__(channels)
        for name, value in {"reduction": reduction, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        hidden = hidden or max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.channel = MapTap("channel")

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Take torchvision's or timm's weights or a port's (``fc.0``, ``fc.2``); batch norms are folded in.

        A batch norm behind a layer (``bn1``, ``bn2``) is one more factor and bias of it in eval mode; the
        block has none, so training goes on without it.
        """
        own = translated(
            _folded(state),
            {"fc1": "squeeze", "fc2": "excite"},
            {"fc.0": "squeeze", "fc.2": "excite"},
            {"conv_reduce": "squeeze", "conv_expand": "excite"},
        )
        hidden, channels = own["squeeze.weight"].shape[:2]
        return filled(cls(channels, hidden=hidden, **keywords), own)

    def gates(self, x: Tensor) -> tuple[Tensor]:
        """Return the channel gate ``(N, C, 1, 1)``."""
        mean = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.excite(self.relu(self.squeeze(mean))).sigmoid()
        return (self.channel(gate),)


def _folded(state: Mapping[str, Tensor], eps: float = 1e-5) -> dict[str, Tensor]:
    """Fold the batch norms ``bn1`` and ``bn2`` into ``fc1`` and ``fc2``, where there are any."""
    own = {key: value for key, value in state.items() if not key.startswith(("bn1.", "bn2."))}
    for layer, norm in (("fc1", "bn1"), ("fc2", "bn2")):
        if f"{norm}.running_var" not in state:
            continue
        scale, shift, mean, var = (state[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
        factor = scale / (var + eps).sqrt()
        weight = state[f"{layer}.weight"]
        own[f"{layer}.weight"] = weight * factor.view(-1, *[1] * (weight.ndim - 1))
        own[f"{layer}.bias"] = shift + (own.get(f"{layer}.bias", torch.zeros_like(mean)) - mean) * factor
    return own
