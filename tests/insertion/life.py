"""The one table of what a user may do with an attended host: hosts, and blocks of each family."""

from __future__ import annotations

from typing import NamedTuple

import hosts
import torch
from torch import Tensor, nn

import visattn


class Plain(nn.Module):
    """A CNN of no library."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        return self.head(self.pool(self.act(self.body(x))).flatten(1))


class Row(NamedTuple):
    """A host, and a block in it."""

    host: str
    block: str

    def __str__(self) -> str:
        return f"{self.host}-{self.block}"

    def bare(self) -> nn.Module:
        """Return the host in eval mode, the same each time."""
        if self.host != "plain":
            return hosts.build(self.host)
        torch.manual_seed(0)
        return moved(Plain()).eval()

    def attended(self) -> nn.Module:
        """Return the host with blocks that have left their identity start, the same each time."""
        model = self.bare()
        visattn.attend(model, self.block, at="pool" if self.block == "additive" else "stages")
        moved(*(m for m in model.modules() if isinstance(m, nn.ModuleDict)))
        return model


HOSTS = ("test_resnet", "test_efficientnet", "torchvision:resnet18", "plain")
BLOCKS = ("cbam", "gc", "coordatt", "additive")  # a gate, a transform, one that carries a batch norm, a pool
ROWS = [Row(host, block) for host in HOSTS for block in BLOCKS]
# each host and each block once, where a whole product would take minutes
FEW = [Row(host, block) for host, block in zip(HOSTS, BLOCKS, strict=True)]

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def moved(*modules: nn.Module) -> nn.Module:
    """Move every parameter and statistic away from its start, where many are exactly 0 or 1."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in modules:
            for name, value in [*module.named_parameters(), *module.named_buffers()]:
                if name.endswith("running_var"):
                    value.copy_(0.5 + torch.rand(value.shape, generator=generator))
                elif value.is_floating_point():
                    value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return modules[0]
