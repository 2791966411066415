"""Small hosts of our own, each with one habit that insertion has to see through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def layer(inside: int = 4, out: int = 4, kernel: int = 3) -> nn.Sequential:
    """Return convolution, norm and activation."""
    return nn.Sequential(nn.Conv2d(inside, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU())


class Block(nn.Module):
    """Adds a branch that goes through ``step``, which subclasses write."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(self.act(self.conv1(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Scaled(Block):
    """Scales its branch by a parameter, as layer scale does without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((4,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) * self.gamma.view(1, -1, 1, 1)


class Dropping(Block):
    """Drops its branch at random in training."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_path = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return x + self.drop_path(y)


class TwoSums(Block):
    """Adds twice, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = layer()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.branch(x)
        return x + self.mlp(x)


class Merged(Block):
    """RepVGG's: parallel linear branches, which become one convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv1(x) + self.conv2(x) + x)


class SharedDrop(Block):
    """Calls one module for two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.drop = layer(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.branch(x))
        return x + self.drop(self.mlp(x))


class TwoNames(nn.Module):
    """Registers one module under two names and calls it by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x)


class HiddenReference(nn.Module):
    """Calls its child through a list that no registry knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.steps = [self.conv]

    def forward(self, x: Tensor) -> Tensor:
        return self.steps[0](x)


class Lazy(nn.Module):
    """Lays a buffer when it is first called, and changes another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.register_buffer("grid", torch.zeros(x.shape[-2:]))
        self.count = self.count + 1
        return self.conv(x) + self.grid


class ManyWays(nn.Module):
    """Calls children with two inputs and by keyword, and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.add, self.last = nn.Conv2d(3, 4, 3, padding=1), Sum(), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.stem(x)
        return {"out": self.last(input=self.add(x, x)), "more": [x]}


class Sum(nn.Module):
    """Adds its inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def host(block: nn.Module) -> nn.Module:
    """Return ``block`` behind a stem and before a head."""
    return nn.Sequential(layer(3), block, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
