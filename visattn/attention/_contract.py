"""What a block is: three families, the taps that show its maps, and the place its paper names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from visattn.ops import apply_gates, mix
from visattn.types import MAP_KINDS, MapKind, UsageError, unknown


class Place(NamedTuple):
    """Where a paper puts its block in one family of hosts."""

    at: str  # a word or pattern as in ``visattn.attend(at=)``
    source: str  # the section or file that says so
    stages: tuple[int, ...] | None = None


class MapTap(nn.Module):
    """An identity that marks a tensor as a map, so that recorders find it by type.

    Args:
        kind: what the tensor's axes mean: ``channel`` (N, C, 1, 1), ``spatial`` (N, 1, H, W) or one
            axis of it, ``full`` (N, C, H, W), ``pairwise`` (N, HW, HW), ``pool`` (N, heads, H, W).
        upper: the largest value (the smallest is 0): 1 for a sigmoid, 2 for ``1 + sigmoid``.
        softmax: the values sum to 1 over positions; they are drawn times ``H * W``, so that 1 is uniform.

    Raises:
        UsageError: ``kind`` is none of these.
    """

    def __init__(self, kind: MapKind, *, upper: float = 1.0, softmax: bool = False) -> None:
        super().__init__()
        if kind not in MAP_KINDS:
            raise unknown("kind of map", kind, MAP_KINDS)
        self.kind: MapKind = kind
        self.upper = upper
        self.softmax = softmax

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

    paper: ClassVar[Mapping[str, Place]] = {}
    """Host family (``resnet``, ``mobilenet``, ...) to the place the paper names there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise UsageError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.strength: nn.Parameter | None
        self.register_parameter("strength", None)

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
