"""A host's own attention: listed, replaced, taken out, and brought back bit for bit."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from hosts import build
from torch import nn

import visattn
from visattn.types import UsageError

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
# host, class of its own attention, how many, the first of them
OWN = [
    ("efficientnet_b0", "SqueezeExcite", 16, "blocks.0.0.se"),
    ("seresnet18", "SEModule", 8, "layer1.0.se"),
    ("regnety_002", "SEModule", 13, "s1.b1.se"),
    ("torchvision:mobilenet_v3_small", "SqueezeExcitation", 9, "features.1.block.1"),
]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("host", "kind", "count", "first"), OWN, ids=[row[0] for row in OWN])
def test_listed_taken_out_and_brought_back(host: str, kind: str, count: int, first: str) -> None:
    model = build(host)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    module, before, size = model.get_submodule(first), model(IMAGES), parameters(model)
    listed = [site for site in visattn.sites(model) if site.native]
    assert (listed[0].name, listed[0].native, len(listed)) == (first, kind, count)
    sites = visattn.attend(model, {"native": None})
    assert [site.name for site in sites] == [site.name for site in listed]
    assert parameters(model) == size - sum(site.removed for site in sites) < size
    assert not torch.equal(model(IMAGES), before), "a trained host is another function without its gates"
    keys = set(model.state_dict())
    assert keys == {key for key in state if not any(key.startswith(f"{site.name}.") for site in sites)}
    assert visattn.detach(model) == [f"{site.name}/none" for site in sites]
    assert model.get_submodule(first) is module
    assert list(model.state_dict()) == list(state)
    assert torch.equal(model(IMAGES), before)


def test_without_it_a_host_is_the_one_that_was_built_without() -> None:
    model, plain = build("seresnet18"), build("resnet18")
    visattn.attend(model, {"native": "none"})
    plain.load_state_dict(model.state_dict())  # the same keys, strictly
    assert torch.equal(model(IMAGES), plain(IMAGES))


def test_replaced_by_a_block() -> None:
    model, without = build("efficientnet_b0"), build("efficientnet_b0")
    state = list(model.state_dict())
    visattn.attend(without, {"native": None})
    sites = visattn.attend(model, {"block": "eca", "at": "native"})
    assert {site.blocks for site in sites} == {("eca",)}
    assert torch.equal(model(IMAGES), without(IMAGES)), "its strength is 0 at first"
    assert "blocks.0.0.se.attention.eca.mix.weight" in model.state_dict()
    assert not any("se.conv_reduce" in key for key in model.state_dict())
    model.train()(IMAGES).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters()), "nothing is left that no loss reaches"
    model.eval()
    removed = visattn.detach(model, block="eca")
    assert removed == [f"{site.name}/eca" for site in sites]
    assert list(model.state_dict()) == state
    assert model.get_submodule("blocks.0.0.se").conv_reduce.weight.grad is None


def test_mixed_with_other_places_and_one_brought_back() -> None:
    model = build("seresnet18")
    visattn.attend(
        model, [{"native": None}, {"block": "cbam", "at": "layer4.*.bn2"}, {"block": "gc", "at": "layer1.0.se"}][:2]
    )
    visattn.attend(model, "gc", at="layer1.0.se")
    found = {site.name: site for site in visattn.sites(model)}
    assert found["layer1.0.se"].blocks == ("gc",)
    assert found["layer1.0.se"].native == "SEModule"
    assert visattn.detach(model, sites=["layer2.0.se"]) == ["layer2.0.se/none"]
    assert "layer2.0.se.fc1.weight" in model.state_dict()
    assert visattn.detach(model, sites=["layer4.0.bn2"]) == ["layer4.0.bn2/cbam"]
    assert "layer2.1.se.fc1.weight" not in model.state_dict()


def test_the_hosts_checkpoint_loads_and_comes_back_with_it() -> None:
    model, other = build("seresnet18"), build("seresnet18")
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.05)
    visattn.attend(model, {"native": "eca"})
    model.load_state_dict(other.state_dict())
    visattn.detach(model)
    assert torch.equal(model(IMAGES), other(IMAGES))


def test_a_broken_checkpoint_is_refused() -> None:
    model = build("seresnet18")
    state = dict(model.state_dict())
    visattn.attend(model, {"native": None})
    del state["layer1.0.se.fc1.weight"]
    with pytest.raises(RuntimeError, match=r"layer1\.0\.se\.fc1\.weight"):
        model.load_state_dict(state)


def test_follows_its_host_to_another_precision_and_mode() -> None:
    model = build("seresnet18")
    visattn.attend(model, {"native": None})
    model.double().train()
    visattn.detach(model)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert all(module.training for module in model.modules())


def test_survives_copies() -> None:
    model = build("seresnet18")
    before = model(IMAGES)
    visattn.attend(model, {"native": "se"})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        visattn.detach(other)
        assert torch.equal(other(IMAGES), before)
    assert visattn.detach(model)


def test_a_host_without_any() -> None:
    with pytest.raises(UsageError, match="comes without attention"):
        visattn.attend(build("resnet18"), {"native": "eca"})


def test_an_attended_one_is_not_replaced_and_an_absent_one_takes_blocks() -> None:
    model = build("seresnet18")
    visattn.attend(model, "gc", at="layer1.0.se")
    with pytest.raises(UsageError, match=r"layer1\.0\.se is already attended \(gc\); detach first"):
        visattn.attend(model, {"block": "eca", "at": "native", "add": True})
    visattn.detach(model)
    visattn.attend(model, [{"native": None}, {"block": "gc", "at": "layer1.0.se", "add": True}])
    assert [site.blocks for site in visattn.sites(model) if site.name == "layer1.0.se"] == [("gc",)]
    before = visattn.create_model("seresnet18").state_dict().keys()
    assert set(visattn.detach(model)) >= {"layer1.0.se/gc", "layer4.1.se/none"}
    assert model.state_dict().keys() == before


def test_stages_choose_what_is_taken_out() -> None:
    host = build("mobilenetv3_small_050")
    every = {site.name for site in visattn.sites(host) if site.native}
    taken = {site.name for site in visattn.attend(host, {"block": None, "at": "native", "stages": [4]})}
    assert set() < taken < every


def test_native_attention_with_a_block_inside_is_refused() -> None:
    host = timm.create_model("test_resnet", num_classes=4, block_args={"attn_layer": "cbam"})
    visattn.attend(host, {"block": "eca", "at": "layer1.0.se.spatial"})
    with pytest.raises(visattn.UsageError, match=r"inside the native attention layer1\.0\.se, is attended"):
        visattn.attend(host, {"native": None})
