"""The pyramid over a plain host: what runs, what is frozen, and that nothing stays behind."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import visattn
from visattn.attention._contract import AbstractAttention
from visattn.heads.pyramid import Level, Pyramid, features, host_norms
from visattn.types import UsageError

LEVELS = [Level("layer2.0", 8, 48), Level("layer3.0", 16, 192), Level("layer4.0", 32, 96)]
NAMES = [level.name for level in LEVELS]
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def body(attention: str | None = None) -> nn.Module:
    """Return a small host, attended or not."""
    torch.manual_seed(0)
    host: nn.Module = timm.create_model("test_resnet")
    visattn.attend(host, attention, init="paper")
    return host


def pyramid(host: nn.Module, *, frozen: bool = False) -> Pyramid:
    torch.manual_seed(1)
    return Pyramid(host, LEVELS, extra=LastLevelMaxPool(), out_channels=64, frozen=frozen)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_maps_are_timms_own() -> None:
    host = body().eval()
    expected = host.forward_intermediates(IMAGES, indices=[2, 3, 4], intermediates_only=True)
    for ours, theirs in zip(features(host, NAMES, IMAGES), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_behind_the_last_level_runs_and_no_hook_stays() -> None:
    host = body()
    ran: list[str] = []
    host.global_pool.register_forward_hook(lambda *_: ran.append("pool"))
    before = hooks(host)
    features(host, NAMES, IMAGES)
    assert ran == []
    assert hooks(host) == before
    with pytest.raises(RuntimeError):
        features(host, NAMES, torch.zeros(1, 5, 64, 64))
    assert hooks(host) == before


def test_a_level_that_is_not_called_is_named() -> None:
    host = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity())
    host.aside = nn.Identity()
    host.forward = lambda x: host[0](x)
    with pytest.raises(UsageError, match="did not call aside"):
        features(host, ["0", "aside"], IMAGES)


def test_checkpointed_gradients_are_the_same() -> None:
    plain, saving = pyramid(body()), pyramid(body())
    saving.body.set_grad_checkpointing()
    for model in (plain, saving):
        sum(x.square().mean() for x in model(IMAGES).values()).backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


def test_copies_and_pickles_compute_the_same() -> None:
    model = pyramid(body("cbam")).eval()
    expected = model(IMAGES)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(x, expected[name]) for name, x in twin(IMAGES).items())


def test_frozen_norms_are_the_hosts_alone() -> None:
    host = body("coordatt")
    model = pyramid(host, frozen=True)
    model.train()
    inside = [m for block in host.modules() if isinstance(block, AbstractAttention) for m in block.modules()]
    added = [m for m in inside if isinstance(m, nn.BatchNorm2d)]
    own = list(host_norms(host))
    assert added
    assert not {id(m) for m in added} & {id(m) for m in own}
    assert len(own) == len(list(host_norms(body())))
    before = {name: b.clone() for name, b in model.named_buffers() if "running" in name}
    model(IMAGES)
    moved = {name for name, b in model.named_buffers() if "running" in name and not torch.equal(b, before[name])}
    assert moved
    assert all(".attention." in name for name in moved)
    assert len(moved) == 2 * len(added)
    assert not any(p.requires_grad for norm in own for p in norm.parameters())
    assert all(p.requires_grad for norm in added for p in norm.parameters())


def test_norms_train_otherwise() -> None:
    model = pyramid(body())
    model.train().eval().train()
    assert all(norm.training for norm in host_norms(model.body))


def test_lowered_is_for_its_block_only() -> None:
    model = pyramid(body())
    seen: list[torch.dtype] = []
    model.body.layer1[0].conv1.register_forward_hook(lambda m, a, y: seen.append(y.dtype))
    with model.lowered(torch.bfloat16):
        lowered = model(IMAGES)
    model(IMAGES)
    assert seen == [torch.bfloat16, torch.float32]
    assert {x.dtype for x in lowered.values()} == {torch.float32}
    with pytest.raises(RuntimeError), model.lowered(torch.bfloat16):
        raise RuntimeError
    assert model.precision is None
