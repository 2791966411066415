"""How a transform starts as the identity: a step from its input towards its output."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 1e38  # finite in fp32, with room for a difference of two


def mix(x: Tensor, y: Tensor, strength: Tensor | None) -> Tensor:
    """Return ``x + strength * (y - x)`` in the dtype of ``x``; ``y`` itself without a strength.

    The difference is taken in fp32, and an overflowed ``y`` counts as a large
    finite number: ``0 * inf`` would turn a step of no length into NaN.

    Example:
        >>> x, y = torch.ones(2, dtype=torch.float16), torch.full((2,), float("inf"), dtype=torch.float16)
        >>> mix(x, y, torch.zeros(1))
        tensor([1., 1.], dtype=torch.float16)
    """
    if strength is None:
        return y.type_as(x)
    # promotion widens the half precisions and leaves float64; asking for the dtype would break FX tracing
    zero = strength.new_zeros(1, dtype=torch.float32)
    start, end = x + zero, (y + zero).clamp(-LARGEST, LARGEST)
    return (start + strength * (end - start)).type_as(x)
