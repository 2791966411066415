"""The one table of blocks: a row a block and form, each with a formula that does not use the block's code.

A formula reads a block's parameters and buffers by name and its ``training`` flag, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
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


def _values(module: nn.Module) -> dict[str, Tensor]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: value.double() if value.is_floating_point() else value for name, value in named}


def _dense(p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    """Apply a 1x1 convolution as a matrix."""
    weight, bias = p[f"{name}.weight"].flatten(1), p.get(f"{name}.bias")
    y = torch.einsum("oc,nchw->nohw", weight, z)
    return y if bias is None else y + bias[:, None, None]


def _batch_norm(module: nn.Module, p: dict[str, Tensor], name: str, z: Tensor) -> Tensor:
    if module.training and z[:, 0].numel() > 1:
        mean = z.mean(dim=(0, 2, 3))
        var = (z - mean[:, None, None]).square().mean(dim=(0, 2, 3))
    else:
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    scale = p[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (z - mean[:, None, None]) * scale[:, None, None] + p[f"{name}.bias"][:, None, None]


def _sigmoid(z: Tensor) -> Tensor:
    return 1 / (1 + (-z).exp())


def se(module: nn.Module, x: Tensor) -> Tensor:
    p = _values(module)
    squeezed = _dense(p, "squeeze", x.mean(dim=(2, 3), keepdim=True))
    return x * _sigmoid(_dense(p, "excite", squeezed.clamp(min=0)))


def eca(module: nn.Module, x: Tensor) -> Tensor:
    weight = _values(module)["mix.weight"].flatten()
    reach = len(weight) // 2
    mean = F.pad(x.mean(dim=(2, 3)), (reach, reach))  # zeros beyond the first and the last channel
    mixed = sum(w * mean[:, i : i + x.shape[1]] for i, w in enumerate(weight))
    return x * _sigmoid(torch.as_tensor(mixed))[:, :, None, None]


def cbam(module: nn.Module, x: Tensor) -> Tensor:
    p = _values(module)

    def mlp(z: Tensor) -> Tensor:
        return _dense(p, "mlp.2", _dense(p, "mlp.0", z).clamp(min=0))

    x = x * _sigmoid(mlp(x.mean((2, 3), keepdim=True)) + mlp(x.amax((2, 3), keepdim=True)))
    pooled = torch.stack([x.amax(1), x.mean(1)], dim=1)
    weight = p["conv.weight"]
    z = F.conv2d(pooled, weight, padding=weight.shape[-1] // 2)
    return x * _sigmoid(_batch_norm(module, p, "norm", z))


def bam(module: nn.Module, x: Tensor, dilation: int = 4, add: bool = False) -> Tensor:
    p = _values(module)
    channel = _batch_norm(module, p, "mlp.1", _dense(p, "mlp.0", x.mean((2, 3), keepdim=True)))
    channel = _dense(p, "mlp.3", channel.clamp(min=0))
    spatial = _batch_norm(module, p, "conv.1", _dense(p, "conv.0", x)).clamp(min=0)
    for i in (3, 6):
        z = F.conv2d(spatial, p[f"conv.{i}.weight"], p[f"conv.{i}.bias"], padding=dilation, dilation=dilation)
        spatial = _batch_norm(module, p, f"conv.{i + 1}", z).clamp(min=0)
    spatial = _dense(p, "conv.9", spatial)
    if add:
        both = _batch_norm(module, p, "mlp.4", channel) + _batch_norm(module, p, "conv.10", spatial)
    else:
        both = channel * spatial
    return x + x * _sigmoid(both)


def simam(module: nn.Module, x: Tensor, e_lambda: float = 1e-4, correction: int = 1) -> Tensor:
    del module  # no parameters
    count = max(1, x.shape[2] * x.shape[3] - correction)
    distance = (x - x.mean((2, 3), keepdim=True)) ** 2
    variance = distance.sum((2, 3), keepdim=True) / count
    # the paper's energy of a value, equation 5; its inverse is the importance
    energy = 4 * (variance + e_lambda) / (distance + 2 * variance + 2 * e_lambda)
    return x * _sigmoid(1 / energy)


def coordatt(module: nn.Module, x: Tensor) -> Tensor:
    p = _values(module)
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
    z = _batch_norm(module, p, "norm", _dense(p, "shared", torch.cat([rows, columns], dim=2)))
    z = z * (z + 3).clamp(0, 6) / 6
    height = _sigmoid(_dense(p, "height_conv", z[:, :, : x.shape[2]]))
    width = _sigmoid(_dense(p, "width_conv", z[:, :, x.shape[2] :])).transpose(2, 3)
    return x * height * width


def gc(module: nn.Module, x: Tensor) -> Tensor:
    p = _values(module)
    weights = _dense(p, "score", x).exp()
    weights = weights / weights.sum((2, 3), keepdim=True)
    z = _dense(p, "squeeze", (x * weights).sum((2, 3), keepdim=True))
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    z = z * p["norm.weight"] + p["norm.bias"]
    return x + _dense(p, "excite", z.clamp(min=0))


def additive(
    module: nn.Module, x: Tensor, mask: Tensor | None = None, heads: int = 1, top_k: int | None = None
) -> Tensor:
    """Work head by head and sample by sample, on the positions that count alone."""
    p = _values(module)
    w, b, u = p["project.weight"].flatten(1), p["project.bias"], p["score.weight"].flatten(1)
    pooled = []
    for i, sample in enumerate(x.flatten(2)):
        points = sample if mask is None else sample[:, mask[i].flatten()]  # (C, positions)
        contexts = []
        for head, own in enumerate(points.chunk(heads)):
            if not points.shape[1]:
                contexts.append(own.new_zeros(len(own)))
                continue
            scores = u[head] @ torch.tanh(w @ points + b[:, None])
            best = scores.argsort(descending=True)[: top_k or len(scores)]
            alpha = scores[best].exp() / scores[best].exp().sum()
            contexts.append(own[:, best] @ alpha)
        pooled.append(torch.cat(contexts))
    return torch.stack(pooled)


CHANNEL, FULL = {"channel": "channel"}, {"full": "full"}

CASES = [
    Case("se", 32, 2 * 32 * 2 + 2 + 32, CHANNEL, se),
    Case("se", 6, 2 * 6 * 1 + 1 + 6, CHANNEL, se),  # fewer channels than the reduction
    Case("se", 24, 2 * 24 * 6 + 6 + 24, CHANNEL, se, {"reduction": 4}),
    Case("eca", 64, 3, CHANNEL, eca),
    Case("eca", 512, 5, CHANNEL, eca),
    Case("eca", 5, 7, CHANNEL, eca, {"kernel": 7}),
    Case("cbam", 32, 2 * 32 * 2 + 2 + 32 + 2 * 49 + 2, {"channel": "channel", "spatial": "spatial"}, cbam),
    Case(
        "cbam",
        9,
        2 * 9 * 3 + 3 + 9 + 2 * 9 + 2,
        {"channel": "channel", "spatial": "spatial"},
        cbam,
        {"reduction": 3, "kernel": 3},
    ),
    Case("bam", 32, 3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1, FULL, bam),
    Case(
        "bam",
        32,
        3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1 + 2 * 32 + 2,
        FULL,
        lambda m, x: bam(m, x, add=True),
        {"combine": "add"},
    ),
    Case(
        "bam",
        6,
        3 * 6 * 3 + 6 + 18 * 9 + 13 * 3 + 1,
        FULL,
        lambda m, x: bam(m, x, dilation=2),
        {"reduction": 2, "dilation": 2},
    ),
    Case("simam", 16, 0, FULL, simam),
    Case(
        "simam",
        3,
        0,
        FULL,
        lambda m, x: simam(m, x, e_lambda=0.1, correction=0),
        {"e_lambda": 0.1, "correction": 0},
    ),
    Case("coordatt", 32, 3 * 32 * 8 + 2 * 32 + 3 * 8, {"height": "full", "width": "full"}, coordatt),
    Case(
        "coordatt",
        20,
        3 * 20 * 10 + 2 * 20 + 3 * 10,
        {"height": "full", "width": "full"},
        coordatt,
        {"reduction": 2},
    ),
    Case("gc", 64, 2 * 64 * 4 + 2 * 64 + 3 * 4, {"spatial": "spatial"}, gc),
    Case("gc", 20, 2 * 20 * 5 + 2 * 20 + 3 * 5, {"spatial": "spatial"}, gc, {"reduction": 4}),
]

POOLS = [
    Case("additive", 12, 12 * 128 + 128 + 128, {"pool": "pool"}, additive),
    Case(
        "additive",
        12,
        12 * 8 + 8 + 8 * 3,
        {"pool": "pool"},
        lambda m, x, mask=None: additive(m, x, mask, heads=3, top_k=4),
        {"hidden": 8, "heads": 3, "top_k": 4},
    ),
]
