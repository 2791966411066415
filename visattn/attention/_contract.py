"""What a block is: three families, the taps that show its maps, and the place its paper names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from visattn.ops import apply_gates, mix
from visattn.types import MAP_KINDS, Family, MapKind, UsageError, unknown

# Two places in the blocks of a MobileNetV2 and its kin, in timm's and in torchvision's names: behind the block's last
# norm, and on the expanded features, ahead of the convolution that projects them.
INVERTED = (
    r"re:(.*\.)?(blocks\.\d+\.\d+\.bn3|blocks\.0\.\d+\.bn2"
    r"|features\.\d+\.conv\.3|features\.1\.conv\.2|features\.\d+\.(\d+\.)?block\.[23]\.1)"
)
EXPANDED = (
    r"before:re:(.*\.)?(blocks\.\d+\.\d+\.conv_pwl"
    r"|features\.([2-9]|1\d)\.conv\.2|features\.\d+\.(\d+\.)?block\.[23]\.0)"
)


class Place(NamedTuple):
    """Where a paper puts its block in one family of hosts."""

    at: str  # a word or pattern as in ``visattn.attend(at=)``
    source: str  # the section or file that says so
    stages: tuple[int, ...] | None = None


class MapTap(nn.Module):
    """An identity that marks a tensor as a map, so that recorders find it by type.

    Args:
        kind: what the tensor's axes mean: ``channel`` (N, C, 1, 1), ``spatial`` (N, 1, H, W) or one
            axis of it, ``full`` (N, C, H, W), ``pairwise`` (N, heads, HW, HW), ``pool`` (N, heads, H, W).
        lower: the smallest value; ``None`` where there is no limit, as in a convolution's output.
        upper: the largest value, or ``None``: 1 for a sigmoid, 2 for ``1 + sigmoid``.
        softmax: the values sum to 1 over positions; they are drawn times ``H * W``, so that 1 is uniform.

    Raises:
        UsageError: ``kind`` is none of these.
    """

    def __init__(
        self, kind: MapKind, *, lower: float | None = 0.0, upper: float | None = 1.0, softmax: bool = False
    ) -> None:
        super().__init__()
        if kind not in MAP_KINDS:
            raise unknown("kind of map", kind, MAP_KINDS)
        self.kind: MapKind = kind
        self.lower = lower
        self.upper = upper
        self.softmax = softmax

    @property
    def watched(self) -> bool:
        """Whether a recorder is attached: without one a block need not build a map that its output can do without."""
        return bool(self._forward_hooks)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` itself."""
        return x


class AbstractAttention(nn.Module, ABC):
    """What all blocks share: their channels, their paper's places and an optional identity start.

    Args:
        channels: ``C``, the channels of the features attended to.

    Raises:
        UsageError: ``channels`` is not positive.
    """

    family: ClassVar[Family]
    """What the block weighs: ``channel``, ``spatial``, ``mixed``, ``branch``, ``global`` or ``pool``."""

    paper: ClassVar[Mapping[str, Place]] = {}
    """Host family (``resnet``, ``mobilenet``, ...) to the place the paper names there."""

    undecayed: ClassVar[tuple[str, ...]] = ("strength",)
    """The parameters that weight decay must leave alone, whatever their shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise UsageError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.strength: nn.Parameter | None
        self.register_parameter("strength", None)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], **keywords: Any) -> Self:
        """Build the block that others' weights describe, and load them.

        Args:
            state: the weights of one block under the authors' or timm's names.
            **keywords: the block's keywords that no shape tells.

        Raises:
            UsageError: the names or shapes are not those of a known implementation.
        """
        del state, keywords
        raise UsageError(f"no weights of others are known for {cls.__name__}; valid: its own state dict")

    def start_as_identity(self) -> None:
        """Give the block a learnable strength, 0 at first: in its site it then changes nothing."""
        # shape (1,): FSDP2 refuses scalar parameters
        self.strength = nn.Parameter(torch.zeros(1))


class AbstractGate(AbstractAttention):
    """A block that multiplies its input: ``y = x * g1 * g2 ...``."""

    @abstractmethod
    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the factors for ``x`` ``(N, C, H, W)``, each broadcastable to it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its gates, in the shape, dtype and memory format of ``x``."""
        return apply_gates(x, self.gates(x), self.strength)


class AbstractTransform(AbstractAttention):
    """A block that computes its output itself: ``y = f(x)``."""

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """Return ``f(x)`` in the shape of ``x`` ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``f(x)`` (or a step towards it), in the shape, dtype and memory format of ``x``."""
        return mix(x, self.transform(x), self.strength)


class AbstractPool(AbstractAttention):
    """A block that replaces global average pooling: ``(N, C, H, W) -> (N, C)``."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return ``(N, C)``; positions where ``mask`` ``(N, H, W)`` is False get no weight."""
