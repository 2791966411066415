"""Half precision to fp32, where sums and exponentials need it."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in fp32 if it is of half precision, ``x`` itself if it is fp32 or float64.

    Example:
        >>> widen(torch.ones(1, dtype=torch.float16)).dtype, widen(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    # promotion of two single values finds the dtype; reading x.dtype would break FX tracing
    return x.type_as(x.new_zeros(1) + x.new_zeros(1, dtype=torch.float32))
