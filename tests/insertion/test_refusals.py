"""What is refused, in one line, before anything has changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hosts import build, fingerprint
from torch import distributed, nn

import visattn


class Twice(nn.Module):
    """Calls one layer twice and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.idle = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(x))


class Owner(nn.Module):
    """Has a child of the name that insertion would take."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3))
        self.block = nn.Module()
        self.block.attention = nn.Conv2d(3, 3, 1)
        self.block.forward = lambda x: self.block.attention(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block.forward(self.body(x))


REFUSED: list[tuple[str, object, dict, str]] = [
    ("resnet18", "cbma", {}, "did you mean 'cbam'"),
    ("resnet18", {"block": "se", "reductio": 4}, {}, "did you mean 'reduction'"),
    ("resnet18", "se", {"at": "layer5.*"}, "near names: layer"),
    ("resnet18", "se", {"at": "stage:7"}, "valid: stage:0"),
    ("resnet18", "se", {"at": "re:("}, "not a regular expression"),
    ("resnet18", "se", {"at": "fpn"}, "no pyramid"),
    ("resnet18", "se", {"at": "residual", "stages": [5]}, "valid: \\[1, 2, 3, 4\\]"),
    ("resnet18", "se", {"init": "zero"}, "valid: identity, paper"),
    ("resnet18", "se", {"at": "layer4"}, "name its child layer4.1"),
    ("resnet18", "se", {"at": "fc"}, r"has \(N, C, H, W\) features"),
    ("resnet18", "se", {"at": r"re:layer1\.0(\.bn1)?"}, "one inside the other"),
    ("resnet18", "se", {"at": "pool"}, r"\(N, C, H, W\) features"),
    ("resnet18", "additive", {"at": "layer4.1"}, "stands at='pool'"),
    ("resnet18", {"block": "se", "reduction": 0}, {}, "at least 1, got 0"),
    ("resnet18", 3, {}, "valid: a block's name"),
    ("resnet18", {"block": ["se"]}, {}, r"block \['se'\] is list"),
    ("resnet18", {"block": "se", "stages": 2.5}, {}, "stage 2.5 is not valid"),
    ("resnet18", {"block": "se", "channels": 4}, {}, "keyword 'channels' of se is not valid"),
    ("resnet18", {"block": None, "nope": 3}, {}, "unknown keyword of no attention 'nope'"),
    ("convnext_tiny", "se", {"at": "stages.*.blocks.*.norm"}, "channels are its last axis"),
    ("resnet18", ["se", "eca"], {}, "already attended \\(another entry's block\\)"),
    ("resnet18", [{"block": "se", "at": "layer1"}, {"block": "se"}], {}, "name its child layer1.1"),
    ("resnet18", {"block": "se", "at": "native"}, {}, "comes without attention"),
    ("resnet18", "se", {"example": torch.zeros(1, 4, 64, 64)}, "fails on trial images of 4x64x96 and 4x64x64"),
    ("resnet18", "se", {"example": torch.zeros(3, 64, 64)}, r"must be a tensor \(N, C, H, W\)"),
    ("torchvision:mobilenet_v2", "gated", {}, "no module pools its last features"),
    ("efficientnet_b0", "se", {"at": "blocks.0.0.se.conv_reduce"}, "H and W do not follow the image"),
]


@pytest.mark.parametrize(("host", "spec", "how", "message"), REFUSED, ids=[row[3] for row in REFUSED])
def test_refusals_change_nothing(host: str, spec: object, how: dict, message: str) -> None:
    model = build(host)
    before = fingerprint(model)
    with pytest.raises(visattn.UsageError, match=message) as refusal:
        visattn.attend(model, spec, **how)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
    assert fingerprint(model) == before


class Looking(nn.Module):
    """Runs only as long as its first layer is what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.first, nn.Conv2d):
            raise TypeError("first is no convolution")
        return self.second(self.first(x))


def test_a_host_that_fails_behind_insertion_is_as_it_was() -> None:
    host = Looking()
    old = fingerprint(host)
    with pytest.raises(visattn.UsageError, match=r"fails with attention at first, second .* first is no convolution"):
        visattn.attend(host, [{"block": "se", "at": "first"}, {"block": "se", "at": "second"}])
    assert fingerprint(host) == old


@pytest.mark.parametrize("name", ["attention", "base", "before", "insert", "remove"])
def test_names_that_a_wrapper_would_hide_are_refused(name: str) -> None:
    host = nn.Sequential(nn.Conv2d(3, 8, 3))
    setattr(host[0], name, None)
    with pytest.raises(visattn.UsageError, match=f"has '{name}' of its own"):
        visattn.attend(host, "se", at="0")


def test_detach_takes_a_site_named_twice() -> None:
    host = nn.Sequential(nn.Conv2d(3, 8, 3))
    old = fingerprint(host)
    visattn.attend(host, "se", at="0")
    assert visattn.detach(host, sites=["0", "0"]) == ["0/se"]
    assert fingerprint(host) == old


def test_refuses_what_is_not_called_once() -> None:
    model = Twice()
    for name, times in (("conv", 2), ("idle", 0)):
        with pytest.raises(visattn.UsageError, match=f"called {times} times"):
            visattn.attend(model, "se", at=name)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_refuses_wrapped_hosts() -> None:
    model, scripted = build("resnet18"), torch.jit.trace(nn.ReLU(), torch.ones(1))
    with pytest.raises(visattn.UsageError, match="compiled"):
        visattn.attend(torch.compile(model), "se")
    with pytest.raises(visattn.UsageError, match="DataParallel"):
        visattn.attend(nn.DataParallel(model), "se")
    with pytest.raises(visattn.UsageError, match="ScriptModule"):
        visattn.attend(scripted, "se")


@pytest.fixture
def gloo() -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_refuses_a_host_in_ddp_and_one_around_it() -> None:
    model = nn.parallel.DistributedDataParallel(build("test_resnet"))
    before = fingerprint(model)
    with pytest.raises(visattn.UsageError, match=r"DistributedDataParallel; attend its \.module"):
        visattn.attend(model, "se")
    with pytest.raises(visattn.UsageError, match="0 is wrapped by DistributedDataParallel; attend before wrapping"):
        visattn.attend(nn.Sequential(model), "se")
    assert fingerprint(model) == before


def test_a_second_insertion_changes_nothing() -> None:
    model = build("resnet18")
    visattn.attend(model, "cbam", init="paper")
    before = fingerprint(model)
    for spec in ("cbam", "se", {"layer2.*.bn2": "eca"}, [{"block": "gc", "at": "layer4.1"}, "se"]):
        with pytest.raises(visattn.UsageError, match=r"already attended \(cbam\); pass add=True"):
            visattn.attend(model, spec)
    assert fingerprint(model) == before


def test_detach_names_what_is_there() -> None:
    model = build("resnet18")
    visattn.attend(model, "se", at="layer4.*.bn2")
    before = fingerprint(model)
    with pytest.raises(visattn.UsageError, match=r"unknown attended site 'layer3\.0\.bn2'"):
        visattn.detach(model, sites=["layer4.0.bn2", "layer3.0.bn2"])
    with pytest.raises(visattn.UsageError, match=r"unknown inserted block 'eca'.*valid: se"):
        visattn.detach(model, block="eca")
    assert fingerprint(model) == before


def test_a_partly_planned_change_is_no_change() -> None:
    model = build("resnet18")
    before = fingerprint(model)
    with pytest.raises(visattn.UsageError):
        visattn.attend(model, {"layer1.*.bn2": "se", "layer2.*.nothing": "eca"})
    assert fingerprint(model) == before
