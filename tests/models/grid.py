"""The one table of the grid: four detectors, small hosts of many families, three kinds of block."""

from __future__ import annotations

import torch
from torch import Tensor

from visattn.heads import ARCHITECTURES

HOSTS = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_nfnet",
    "regnetx_002",
    "mobilenetv3_small_050",
    "lcnet_035",
    "densenet121",
    "dla46_c",
    "rexnet_100",
    "fasternet_t0",
    "starnet_s1",
    "torchvision:mobilenet_v2",
    "torchvision:shufflenet_v2_x0_5",
]
BLOCKS = ["eca", "gc", "coordatt"]  # a gate, a transform, one with a batch norm
GRID = [(arch, host, block) for arch in ARCHITECTURES for host in HOSTS for block in BLOCKS]
# every detector, every block and as many hosts as fit into seconds
DIAGONAL = [(ARCHITECTURES[i % 4], host, BLOCKS[i % 3]) for i, host in enumerate(HOSTS[:7])]

SMALL = {"image_size": 96, "channels": 64, "num_classes": 3}

Target = dict[str, Tensor]


def target(*rows: tuple[int, float, float, float, float]) -> Target:
    """Return the target with these rows of label and box."""
    boxes = torch.tensor([row[1:] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor([row[0] for row in rows], dtype=torch.int64)}


def batch() -> tuple[list[Tensor], list[Target]]:
    """Return two pictures of different shapes, the second without an object."""
    generator = torch.Generator().manual_seed(7)
    images = [torch.rand(3, 80, 100, generator=generator), torch.rand(3, 96, 72, generator=generator)]
    return images, [target((2, 10, 12, 50, 60), (0, 30, 20, 90, 70)), target()]
