"""What the rows of ``rows/`` are made of: a case, and the arithmetic that formulas share.

A file of rows belongs to the block of its name and holds a formula that does not use the block's code: it
reads the block's parameters and buffers by name and its ``training`` flag, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visattn.attention import block
from visattn.attention._contract import AbstractAttention


@dataclass(frozen=True)
class Case:
    name: str
    channels: int
    parameters: int
    maps: Mapping[str, str]  # tap to kind
    reference: Callable[..., Tensor]  # (block, x) -> y
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.keywords.items())])

    def build(self) -> AbstractAttention:
        torch.manual_seed(0)
        return block(self.name, self.channels, **self.keywords)


@dataclass(frozen=True)
class Live:
    """Another library's block, installed here: with its weights ours must give the same."""

    name: str
    source: str
    build: Callable[[], nn.Module]
    channels: int
    keywords: Mapping[str, Any] = field(default_factory=dict)  # of from_reference
    output: Callable[[Any], Tensor] = lambda y: y

    def __str__(self) -> str:
        return f"{self.name}-{self.source}"


def perturbed(module: nn.Module, seed: int = 1) -> Any:
    """Move every parameter and statistic away from its start, where many are exactly 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.is_floating_point():
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return module


def features(*shape: int, seed: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an input whose channels and positions differ in level and spread."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (x * torch.linspace(0.5, 2, shape[1])[:, None, None] + 0.3).to(dtype)


def values(module: nn.Module) -> dict[str, Tensor]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: value.double() if value.is_floating_point() else value for name, value in named}


def dense(p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    """Apply a 1x1 convolution as a matrix."""
    weight, bias = p[f"{name}.weight"].flatten(1), p.get(f"{name}.bias")
    y = torch.einsum("oc,nchw->nohw", weight, z)
    return y if bias is None else y + bias[:, None, None]


def batch_norm(module: nn.Module, p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    if module.training and z[:, 0].numel() > 1:
        mean = z.mean(dim=(0, 2, 3))
        var = (z - mean[:, None, None]).square().mean(dim=(0, 2, 3))
    else:
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    scale = p[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (z - mean[:, None, None]) * scale[:, None, None] + p[f"{name}.bias"][:, None, None]


def sigmoid(z: Tensor) -> Tensor:
    return 1 / (1 + (-z).exp())
