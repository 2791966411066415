"""Norms for pooled features, which detection trains one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F


class PooledBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that takes one value a channel in training too.

    A single pooled value has no variance, so ``nn.BatchNorm2d`` refuses it. Here the running
    statistics serve then, unchanged: the layer acts as it would in eval mode. For every other
    input it is ``nn.BatchNorm2d``, and its parameters and buffers are the same.

    Example:
        >>> import torch
        >>> PooledBatchNorm2d(4)(torch.ones(1, 4, 1, 1)).shape
        torch.Size([1, 4, 1, 1])
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.BatchNorm2d
        """Return ``input`` normalised; shapes as in ``nn.BatchNorm2d``."""
        # FX opens subclasses of torch's modules and cannot follow their checks of the shape
        traced = isinstance(input, Proxy)
        fixed = not self.training or (not traced and input.numel() == input.shape[1])
        if not (traced or fixed):
            return super().forward(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, not fixed, momentum, self.eps
        )


class PooledGroupNorm(nn.GroupNorm):
    """A group norm that takes one value a group in training too: its output is then the bias.

    For every other input it is ``nn.GroupNorm``, and its parameters are the same.

    Example:
        >>> import torch
        >>> PooledGroupNorm(4, 4)(torch.ones(1, 4, 1)).shape
        torch.Size([1, 4, 1])
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.GroupNorm
        """Return ``input`` normalised; shapes as in ``nn.GroupNorm``."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
