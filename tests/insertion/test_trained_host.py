"""A trained host loses nothing by blocks that start as the identity, and learns on from there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import visattn

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "resnet20_cifar10" / "resnet20-12fca82f.th"
PICTURES = SHARED / "data" / "cifar10-jpeg" / "cifar10-jpeg.tar.gz"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EACH = 30  # pictures of a class
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (WEIGHTS.is_file() and PICTURES.is_file()), reason="no ../shared/weights and ../shared/data"
    ),
]


class Shortcut(nn.Module):
    """Takes every second position and pads the channels: no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, x.shape[1] // 2, x.shape[1] // 2))


class BasicBlock(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, out // inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Identity() if inside == out else Shortcut()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class ResNet20(nn.Module):
    """He et al.'s network for CIFAR-10, with the file's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(BasicBlock(16, 32), BasicBlock(32, 32), BasicBlock(32, 32))
        self.layer3 = nn.Sequential(BasicBlock(32, 64), BasicBlock(64, 64), BasicBlock(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


def trained() -> nn.Module:
    model = ResNet20()
    visattn.load_weights(model, WEIGHTS)
    return model.eval()


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test``: normalised pictures and their classes."""
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    with tarfile.open(PICTURES) as archive:
        for member in archive:
            *_, part, name, file = ["", "", *member.name.split("/")]
            if part in images and member.isfile() and int(Path(file).stem) < EACH:
                data = archive.extractfile(member)
                assert data is not None
                images[part].append(np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB")))
                labels[part].append(CLASSES.index(name))
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return {
        part: (
            (torch.from_numpy(np.stack(images[part])).permute(0, 3, 1, 2) / 255 - mean) / std,
            torch.tensor(labels[part]),
        )
        for part in images
    }


def test_the_checkpoint_is_the_trained_one(pictures: dict[str, tuple[Tensor, Tensor]]) -> None:
    x, y = pictures["test"]
    assert len(y) == 10 * EACH
    with torch.no_grad():
        assert (trained()(x).argmax(1) == y).float().mean() > 0.75


@pytest.mark.parametrize("block", ["se", "eca", "cbam", "simam", "gct", "nonlocal", "coordatt", "bam"])
def test_nothing_is_lost_and_training_goes_on(block: str, pictures: dict[str, tuple[Tensor, Tensor]]) -> None:
    (x, y), (more, classes) = pictures["test"], pictures["train"]
    model = trained()
    with torch.no_grad():
        before = model(x)
    sites = visattn.attend(model, block)
    assert sites
    with torch.no_grad():
        after = model(x)
    assert torch.equal(after, before)
    assert F.cross_entropy(after, y).item() == F.cross_entropy(before, y).item()
    with torch.no_grad():
        start = F.cross_entropy(model(more), classes).item()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(8):
        rows = torch.randperm(len(classes), generator=generator)[:64]
        optimiser.zero_grad()
        F.cross_entropy(model(more[rows]), classes[rows]).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        assert F.cross_entropy(model(more), classes).item() < 0.9 * start
    moved = [p for key, p in model.named_parameters() if key.endswith(".strength")]
    assert all(p.abs().item() > 0 for p in moved), "each block has begun to act"
