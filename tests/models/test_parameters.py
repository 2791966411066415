"""Who learns, how fast, and with how much decay; told by module, since names show the wrappers."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

import visattn
from visattn.attention._contract import AbstractAttention
from visattn.models.create import create_model

HOSTS = {
    "test_resnet": "fc",
    "test_efficientnet": "classifier",
    "convnext_atto": "head.fc",
    "torchvision:resnet18": "fc",
}
BLOCKS = ["cbam", "gc", "coordatt", "gct", {"pool": "additive"}]


def groups_by_id(groups: list[dict]) -> dict[int, dict]:
    found = [id(p) for group in groups for p in group["params"]]
    assert len(found) == len(set(found)), "no parameter twice"
    return {id(p): group for group in groups for p in group["params"]}


def inserted(model: nn.Module) -> set[int]:
    return {id(p) for m in model.modules() if isinstance(m, AbstractAttention) for p in m.parameters()}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_parameter_is_in_one_group_and_blocks_have_their_rate(host: str, block: object) -> None:
    model = create_model(host, attention=block, num_classes=3)
    groups = groups_by_id(visattn.param_groups(model, lr=0.1, weight_decay=0.05, new_lr_mult=10))
    new = inserted(model)
    assert groups.keys() == {id(p) for p in model.parameters()}
    for p in model.parameters():
        assert groups[id(p)]["lr"] == pytest.approx(1.0 if id(p) in new else 0.1)
        if p.ndim <= 1:
            assert groups[id(p)]["weight_decay"] == 0
    assert {group["weight_decay"] for group in groups.values()} == {0.0, 0.05}
    for module in model.modules():
        kept = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d)
        for name, p in module.named_parameters(recurse=False):
            exempt = kept or name == "bias" or (isinstance(module, AbstractAttention) and name in module.undecayed)
            if not exempt and p.ndim > 1 and host != "convnext_atto":
                assert groups[id(p)]["weight_decay"] == 0.05
            if exempt:
                assert groups[id(p)]["weight_decay"] == 0


def test_an_optimiser_of_torch_takes_the_groups() -> None:
    model = create_model("test_resnet", attention="cbam", num_classes=3)
    optimiser = torch.optim.SGD(visattn.param_groups(model, lr=0.1, weight_decay=0.05, new_lr_mult=3))
    assert {round(group["lr"], 6) for group in optimiser.param_groups} == {0.1, 0.3}


def test_without_a_rate_timms_schedules_obey_the_scale() -> None:
    from timm.scheduler import CosineLRScheduler

    model = create_model("test_resnet", attention="cbam", num_classes=3)
    optimiser = torch.optim.SGD(visattn.param_groups(model, new_lr_mult=3), lr=0.1)
    CosineLRScheduler(optimiser, t_initial=10).step(0)
    assert {round(group["lr"], 6) for group in optimiser.param_groups} == {0.1, 0.3}


@pytest.mark.parametrize("host", ["resnet18", "densenet121", "convnext_atto", "efficientnet_b0"])
def test_layer_decay_gives_the_host_what_timm_gives_it(host: str) -> None:
    from timm.optim import param_groups_layer_decay

    bare = timm.create_model(host, num_classes=3)
    wanted = groups_by_id(param_groups_layer_decay(bare, weight_decay=0.05, layer_decay=0.7))
    scales = {name: wanted[id(p)]["lr_scale"] for name, p in bare.named_parameters()}
    model = create_model(host, attention={"block": "cbam", "at": "stages"}, num_classes=3)
    found = groups_by_id(visattn.param_groups(model, weight_decay=0.05, layer_decay=0.7))
    new = inserted(model)
    own = {name.replace("_checkpoint_wrapped_module.", ""): p for name, p in model.named_parameters()}
    assert {name: found[id(p)]["lr_scale"] for name, p in own.items() if id(p) not in new} == pytest.approx(scales)


def test_a_block_is_as_deep_as_its_site() -> None:
    model = create_model("resnet18", attention={"block": "cbam", "at": "stages"}, num_classes=3)
    found = groups_by_id(visattn.param_groups(model, layer_decay=0.5))
    for stage in (1, 2, 3, 4):
        site = model.get_submodule(f"layer{stage}.1")
        host, block = site.base.conv1.weight, site.attention["cbam"].strength
        assert found[id(host)]["lr_scale"] == found[id(block)]["lr_scale"]
    assert found[id(model.conv1.weight)]["lr_scale"] < found[id(model.fc.weight)]["lr_scale"] == 1


def test_what_is_frozen_is_in_no_group() -> None:
    model = create_model("test_resnet", attention="cbam", num_classes=3)
    visattn.freeze_host(model)
    trains = {id(p) for p in model.parameters() if p.requires_grad}
    assert groups_by_id(visattn.param_groups(model, lr=0.1)).keys() == trains
    assert trains == inserted(model) | {id(p) for p in model.fc.parameters()}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("block", ["cbam", "coordatt"])
def test_a_frozen_host_computes_what_it_did_and_its_blocks_learn(host: str, block: str) -> None:
    torch.manual_seed(0)
    model = create_model(host, attention={"block": block, "at": "stages"}, num_classes=3)
    images = torch.randn(4, 3, 64, 64)
    before, state = model.eval()(images), {k: v.clone() for k, v in model.state_dict().items()}
    visattn.freeze_host(model)
    torch.testing.assert_close(model(images), before)  # blocks at their identity start: the host alone
    optimiser = torch.optim.SGD(visattn.param_groups(model, lr=0.1))
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
    added = visattn.attention_state_dict(model)
    head = HOSTS[host]
    for key, value in model.state_dict().items():
        if key not in added and not key.startswith(head):
            assert torch.equal(value, state[key]), f"{key} of the host moved"
    assert not torch.equal(model.get_submodule(head).weight, state[f"{head}.weight"])
    moved = {key for key, value in added.items() if not torch.equal(value, state[key])}
    assert {key for key in added if key.endswith(("strength", "running_mean"))} <= moved, "blocks and their norms learn"


def test_a_block_at_a_norm_keeps_its_own_norm_awake() -> None:
    model = create_model("test_resnet", attention="coordatt", num_classes=3)
    visattn.freeze_host(model)
    norms = {name: m.training for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {name for name, awake in norms.items() if awake} == {name for name in norms if ".attention." in name}
    assert any(norms.values())


def test_without_a_head_blocks_alone_learn_and_without_blocks_the_head() -> None:
    model = create_model("test_resnet", attention="eca", num_classes=3)
    visattn.freeze_host(model, head=False)
    assert {id(p) for p in model.parameters() if p.requires_grad} == inserted(model)
    bare = create_model("test_resnet", num_classes=3)
    visattn.freeze_host(bare)
    assert [name for name, p in bare.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]


BAD = [
    ({"lr": -1.0}, "lr must be at least 0, got -1"),
    ({"weight_decay": math.nan}, "weight_decay must be at least 0, got nan"),
    ({"new_lr_mult": -3}, "new_lr_mult must be at least 0, got -3"),
    ({"layer_decay": -0.1}, "layer_decay must be at least 0"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_numbers_are_named(keywords: dict, message: str) -> None:
    with pytest.raises(visattn.UsageError, match=message):
        visattn.param_groups(nn.Linear(2, 2), **keywords)


def test_what_cannot_be_done_is_said_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    with pytest.raises(visattn.UsageError, match="neither attention that learns nor a head"):
        visattn.freeze_host(model, head=False)
    with pytest.raises(visattn.UsageError, match="no head is found in Sequential"):
        visattn.freeze_host(model)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())
    with pytest.raises(visattn.UsageError, match="Sequential is no model of timm"):
        visattn.param_groups(model, layer_decay=0.7)
    model.requires_grad_(False)
    with pytest.raises(visattn.UsageError, match="no parameter that trains"):
        visattn.param_groups(model)
