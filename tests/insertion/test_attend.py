"""What attending promises, on every row of one table of hosts."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from hosts import HOSTS, Host, build
from timm.layers import convert_sync_batchnorm
from timm.utils import reparameterize_model
from torch import nn

import visattn
from visattn.attention._contract import AbstractAttention

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_identity_start_keys_and_removal(host: Host) -> None:
    model = build(host.name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    before, generator = model(IMAGES), torch.get_rng_state()
    sites = visattn.attend(model, "cbam")
    assert len(sites) == (host.residual or len(host.stages))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(model(IMAGES), before)
    keys = list(model.state_dict())
    assert [key for key in keys if key in state] == list(state), "host keys are all there, in their order"
    sites_by_name = {site.name for site in sites}
    for key in keys:
        assert key in state or key.split(".attention.cbam.")[0] in sites_by_name
    model.load_state_dict(state)  # a host's checkpoint, strictly
    assert torch.equal(model(IMAGES), before)
    visattn.detach(model)
    assert list(model.state_dict()) == list(state)
    assert torch.equal(model(IMAGES), before)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_places_found(host: Host) -> None:
    model = build(host.name)
    found = visattn.sites(model)
    by_word = {
        word: [s.name for s in found if word in s.placement.split(", ")] for word in ("residual", "stages", "pool")
    }
    assert len(by_word["residual"]) == host.residual
    assert tuple(by_word["stages"]) == host.stages
    assert by_word["pool"] == ([host.pool] if host.pool else [])
    assert [s.stage for s in found if s.name in host.stages] == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("block", ["se", "cbam", "bam", "simam", "coordatt", "gc"])
def test_identity_in_every_precision(block: str, dtype: torch.dtype) -> None:
    model = build("resnet18").to(dtype)
    before = model(IMAGES.to(dtype))
    visattn.attend(model, block)
    assert torch.equal(model(IMAGES.to(dtype)), before)


def test_paper_init_changes_the_function_and_every_parameter_learns() -> None:
    model = build("resnet18").train()
    before = model(IMAGES)
    visattn.attend(model, "se", init="paper")
    after = model(IMAGES)
    assert not torch.allclose(after, before)
    after.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_identity_leaves_its_start_in_training() -> None:
    model = build("resnet18").train()
    visattn.attend(model, "cbam")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model(IMAGES).square().mean().backward()
        optimiser.step()
    strengths = [m.strength for m in model.modules() if isinstance(m, AbstractAttention)]
    assert len(strengths) == 8
    assert all(s is not None and s.abs() > 0 for s in strengths)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("stages", ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
        ("stage:2", ["layer2.1"]),
        ("residual", [f"layer{i}.{j}.bn2" for i in (1, 2, 3, 4) for j in (0, 1)]),
        ("layer3.*.bn2", ["layer3.0.bn2", "layer3.1.bn2"]),
        (r"re:layer[12]\.0\.bn1", ["layer1.0.bn1", "layer2.0.bn1"]),
        ("before:layer4.0.conv2", ["layer4.0.conv2"]),
        (lambda name, module: isinstance(module, nn.MaxPool2d), ["maxpool"]),
    ],
    ids=["stages", "stage", "residual", "pattern", "regex", "before", "callable"],
)
def test_every_form_of_at(at: object, expected: list[str]) -> None:
    model = build("resnet18")
    before = model(IMAGES)
    sites = visattn.attend(model, "eca", at=at)  # type: ignore[arg-type]
    assert [site.name for site in sites] == expected
    assert torch.equal(model(IMAGES), before)


def test_before_sees_what_the_module_takes() -> None:
    model = build("resnet18")
    (site,) = visattn.attend(model, "eca", at="before:layer2.0.conv1", init="paper")
    assert site.channels == 64
    block = next(m for m in model.modules() if isinstance(m, AbstractAttention))
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model(IMAGES)
    assert seen[0].shape == (2, 64, 16, 16)


def test_stages_pool_mapping_and_lists() -> None:
    model = build("resnet18")
    before = model(IMAGES)
    spec = [
        {"block": "se", "stages": [2, 3], "reduction": 8},
        {"stage:4": "gc", "pool": {"block": "additive", "heads": 4}},
    ]
    sites = visattn.attend(model, spec)
    assert [(s.name, s.blocks) for s in sites] == [
        *[(f"layer{i}.{j}.bn2", ("se",)) for i in (2, 3) for j in (0, 1)],
        ("layer4.1", ("gc",)),
        ("global_pool", ("additive",)),
    ]
    assert torch.equal(model(IMAGES), before)


def test_paper_places_and_fallback() -> None:
    assert {s.name for s in visattn.attend(build("resnet18"), "bam")} == {"layer1.1", "layer2.1", "layer3.1"}
    assert all(s.name.endswith("conv2") for s in visattn.attend(build("resnet18"), "simam"))
    assert {s.placement for s in visattn.attend(build("vgg11_bn"), "se")} == {"stages"}


def test_two_blocks_and_removal_of_one() -> None:
    model = build("resnet18")
    visattn.attend(model, "se", at="layer4.1.bn2")
    with pytest.raises(visattn.UsageError, match="already attended"):
        visattn.attend(model, "eca", at="layer4.1.bn2")
    visattn.attend(model, "eca", at="layer4.1.bn2", add=True)
    (site,) = [s for s in visattn.sites(model) if s.blocks]
    assert site.blocks == ("se", "eca")
    assert visattn.detach(model, block="se") == ["layer4.1.bn2/se"]
    assert any("attention.eca" in key for key in model.state_dict())


def test_removal_by_a_name_with_an_underscore() -> None:
    model = build("resnet18")
    for name in ("spatial_gate", "spatial_gate", "sse"):
        visattn.attend(model, name, at="layer4.1.bn2", add=True)
    removed = ["layer4.1.bn2/spatial_gate", "layer4.1.bn2/spatial_gate_2"]
    assert visattn.detach(model, block="spatial_gate") == removed
    assert [s.blocks for s in visattn.sites(model) if s.blocks] == [("sse",)]


def test_sync_batchnorm_keeps_attention_and_outputs() -> None:
    # timm's converter: torch's own drops the activation inside timm's BatchNormAct2d
    model = build("efficientnet_b0")
    visattn.attend(model, "cbam", init="paper")
    before, keys = model(IMAGES), list(model.state_dict())
    model = convert_sync_batchnorm(model).eval()
    assert list(model.state_dict()) == keys
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules()) > 9
    torch.testing.assert_close(model(IMAGES), before)


def test_copies_pickle_trace_compile_and_export() -> None:
    model = build("resnet18")
    visattn.attend(model, ["cbam", {"block": "additive"}], init="paper")
    before = model(IMAGES)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.fx.symbolic_trace(model)):
        torch.testing.assert_close(other(IMAGES), before)
    assert list(copy.deepcopy(model).state_dict()) == list(model.state_dict())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES), before)
    exported = torch.export.export(model, (IMAGES,)).module()
    torch.testing.assert_close(exported(IMAGES), before)


def test_attention_files(tmp_path) -> None:
    model, fresh = build("resnet18"), build("resnet18")
    visattn.attend(model, "cbam", init="paper")
    visattn.save_attention(model, tmp_path / "a.safetensors")
    torch.manual_seed(7)
    visattn.attend(fresh, "cbam", init="paper")
    assert not torch.equal(fresh(IMAGES), model(IMAGES))
    visattn.load_attention(fresh, tmp_path / "a.safetensors")
    assert torch.equal(fresh(IMAGES), model(IMAGES))
    other = build("resnet18")
    visattn.attend(other, "se")
    with pytest.raises(visattn.UsageError, match="does not fit"):
        visattn.load_attention(other, tmp_path / "a.safetensors")


def test_the_readme_line() -> None:
    model = timm.create_model("resnet50").eval()
    x = torch.randn(2, 3, 96, 96)
    y, keys = model(x), set(model.state_dict())
    visattn.attend(model, "cbam")
    assert torch.equal(model(x), y)
    assert keys <= set(model.state_dict())


def test_host_attributes_and_modes_reach_through() -> None:
    model = build("resnet18")
    weight = model.layer1[0].bn2.weight
    visattn.attend(model, "se")
    assert model.layer1[0].bn2.weight is weight
    assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())


def test_what_is_set_on_a_site_reaches_the_hosts_module() -> None:
    model = build("resnet18")
    bn = model.layer1[0].bn2
    visattn.attend(model, "se")
    model.layer1[0].bn2.eps = 0.5
    model.layer1[0].bn2.weight = nn.Parameter(torch.ones(64))
    assert (bn.eps, bn.weight.sum().item()) == (0.5, 64)
    assert list(model.layer1[0].bn2._parameters) == []
    model.layer1[0].bn2.note = "ours"
    assert not hasattr(bn, "note")


def test_a_site_inside_a_site_of_another_call() -> None:
    model = build("resnet18")
    before, state, inner = model(IMAGES), list(model.state_dict()), model.layer4[1].bn2
    visattn.attend(model, "gc", at="layer4.1")
    visattn.attend(model, "se", at="layer4.1.bn2")
    assert torch.equal(model(IMAGES), before)
    assert {"layer4.1.attention.gc.squeeze.weight", "layer4.1.bn2.attention.se.squeeze.weight"} <= set(
        model.state_dict()
    )
    assert visattn.detach(model, sites=["layer4.1"]) == ["layer4.1/gc"]
    assert [site.name for site in visattn.sites(model) if site.blocks] == ["layer4.1.bn2"]
    visattn.attend(model, "gc", at="layer4.1")
    visattn.detach(model)
    assert model.layer4[1].bn2 is inner
    assert list(model.state_dict()) == state


def test_containers_with_a_forward_of_their_own_stay_containers() -> None:
    model = build("densenet121")
    block = model.features.denseblock1
    names, length = list(block), len(block)
    visattn.attend(model, "scse")
    wrapped = model.features.denseblock1
    assert (list(wrapped), len(wrapped), names[0] in wrapped) == (names, length, True)
    assert wrapped[names[0]] is block[names[0]]
    assert bool(model.features.denseblock1)


def test_merging_a_host_for_inference_keeps_its_blocks() -> None:
    model, images = build("repvgg_a0").double(), IMAGES.double()
    visattn.attend(model, "se", init="paper")
    before = model(images)
    merged = reparameterize_model(model)
    assert sum(isinstance(m, AbstractAttention) for m in merged.modules()) == 4
    assert sum(p.numel() for p in merged.parameters()) < sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(merged(images), before)
