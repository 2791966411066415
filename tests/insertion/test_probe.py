"""What the trial run sees in hosts of many habits, and that it leaves them as they were."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import plain
import pytest
import timm
import torch
import torchvision
from hosts import build, fingerprint
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import visattn
from visattn.types import UsageError

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("block", "ends"),
    [
        (plain.Block, ["1.conv2"]),
        (plain.Scaled, ["1.conv2"]),
        (plain.Dropping, ["1.drop_path"]),
        (plain.TwoSums, ["1.conv2", "1.mlp.2"]),
        (plain.SharedDrop, ["1.conv2", "1.mlp.2"]),
        (plain.Merged, []),
    ],
)
def test_residual_ends(block: type[nn.Module], ends: list[str]) -> None:
    model = plain.host(block())
    found = [site.name for site in visattn.sites(model) if "residual" in site.placement.split(", ")]
    assert found == ends


def test_a_block_stands_ahead_of_drop_path() -> None:
    model = plain.host(plain.Dropping())
    visattn.attend(model, "se", at="residual", init="paper")
    seen: list[torch.Tensor] = []
    model[1].drop_path.attention["se"].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model.train()(IMAGES)
    assert (seen[0] == 0).float().mean() < 0.1, "half of what drop path returns is 0"


def test_a_module_of_two_names_is_wrapped_under_both() -> None:
    model = plain.TwoNames().eval()
    before, state = model(IMAGES), list(model.state_dict())
    visattn.attend(model, "se", at="first", init="paper")
    assert not torch.equal(model(IMAGES), before)
    assert model.first is model.second
    visattn.detach(model)
    assert torch.equal(model(IMAGES), before)
    assert (list(model.state_dict()), model.first is model.second) == (state, True)


def test_a_call_past_the_name_is_refused_and_undone() -> None:
    model = plain.HiddenReference().eval()
    before = fingerprint(model)
    with pytest.raises(UsageError, match="through a reference other than its name"):
        visattn.attend(model, "se", at="conv")
    assert fingerprint(model) == before
    assert type(model.conv) is nn.Conv2d


def test_buffers_laid_on_the_way_are_taken_away_again() -> None:
    model = plain.Lazy().eval()
    before = fingerprint(model)
    assert visattn.sites(model, every=True)
    assert fingerprint(model) == before
    assert float(model.count) == 0


def test_several_inputs_keywords_and_dictionaries() -> None:
    model = plain.ManyWays().eval()
    before = model(IMAGES)["out"]
    visattn.attend(model, {"add": "se", "last": "cbam", "stem": "eca"})
    assert torch.equal(model(IMAGES)["out"], before)
    visattn.detach(model)
    with pytest.raises(UsageError, match="takes no single tensor"):
        visattn.attend(model, "se", at="before:last")


@pytest.mark.skipif(not timm.is_model("test_coatnet"), reason="this timm has no test_coatnet")
def test_one_size_hosts() -> None:
    model = timm.create_model("test_coatnet").eval()  # position weights fit 160x160 alone
    x = torch.randn(1, *model.pretrained_cfg["input_size"])
    before = model(x)
    sites = visattn.attend(model, "cbam")
    assert {site.stage for site in sites} == {1, 2, 3, 4}
    assert torch.equal(model(x), before)
    visattn.detach(model)
    with pytest.raises(UsageError, match="fails on trial images of 3x100x132 and 3x100x100"):
        visattn.attend(model, "se", example=torch.zeros(1, 3, 100, 100))


REFUSED = [
    ("test_vit", r"its features are sequences \(N, L, C\); sites that would work by name: patch_embed.proj$"),
    ("test_mambaout", r"channels last \(N, H, W, C\); sites that would work by name: stem.conv1"),
    ("swin_tiny_patch4_window7_224", r"channels last \(N, H, W, C\); sites that would work by name: patch_embed.proj$"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_hosts_without_maps_are_told_why(name: str, message: str) -> None:
    model = timm.create_model(name).eval()
    before = fingerprint(model)
    for at in ("paper", "residual", "stages"):
        with pytest.raises(UsageError, match=message):
            visattn.attend(model, "se", at=at)
    assert fingerprint(model) == before
    site = message.rpartition(": ")[2].rstrip("$")
    x = torch.randn(1, *model.pretrained_cfg["input_size"])
    logits = model(x)
    visattn.attend(model, "se", at=site)
    assert torch.equal(model(x), logits)


def test_weights_between_positions_are_no_map() -> None:
    model = timm.create_model("swinv2_tiny_window8_256").eval()  # one size; 8x8 positions have weights (1, 24, 64, 64)
    for name in ("layers.3.blocks.0.attn.softmax", "layers.3.blocks.0.attn.attn_drop"):
        with pytest.raises(UsageError, match=r"returns \(1, 24, 64, 64\): .* no positions at all"):
            visattn.attend(model, "se", at=name)


DETECTORS = ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"]
SLOWER = ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16"]


@pytest.mark.parametrize("name", [*DETECTORS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_finished_detectors(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None).eval()
    images = [torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(2))]
    state, before = list(model.state_dict()), model(images)
    sites = visattn.attend(model, "se")
    assert len(sites) > 3
    assert all(site.name.startswith("backbone.") for site in sites)
    assert [key for key in model.state_dict() if key in set(state)] == state
    after = model(images)
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(UsageError, match="not in the detector's backbone"):
        visattn.attend(
            model, "se", at=next(n for n, m in model.named_modules() if "head" in n and not list(m.children()))
        )
    visattn.detach(model)
    assert list(model.state_dict()) == state


def test_a_detectors_sites_have_its_own_names_and_the_papers_places() -> None:
    model = torchvision.models.get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    sites = visattn.attend(model, "cbam", at="paper")
    assert sites[0].name == "backbone.body.layer1.0.bn3"
    assert sites[0].placement.startswith("paper")
    ends = [site.name for site in visattn.sites(model) if "stages" in site.placement]
    assert ends == [f"backbone.body.layer{i}.{j}" for i, j in ((1, 2), (2, 3), (3, 5), (4, 2))]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_hosts_in_half_precision(dtype: torch.dtype) -> None:
    model = build("efficientnet_b0").to(dtype)
    x = IMAGES.to(dtype)
    before = model(x)
    visattn.attend(model, ["cbam", {"pool": "additive"}])
    assert torch.equal(model(x), before)
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_blocks_take_the_precision_of_their_features() -> None:
    model = nn.Sequential(plain.layer(3), plain.layer().double()).eval()
    model[1].register_forward_pre_hook(lambda _, args: (args[0].double(),))
    visattn.attend(model, {"0.2": "se", "1.2": "se"})
    dtypes = {key: value.dtype for key, value in model.state_dict().items() if "squeeze.weight" in key}
    assert dtypes == {
        "0.2.attention.se.squeeze.weight": torch.float32,
        "1.2.attention.se.squeeze.weight": torch.float64,
    }


def test_hosts_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet18")
    sites = visattn.attend(model, "cbam")
    assert len(sites) == 8
    assert all(value.is_meta for value in model.state_dict().values())


SURROUNDINGS = [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, lambda: torch.device("meta")]


@pytest.mark.parametrize("surrounding", SURROUNDINGS, ids=["autocast", "inference", "device"])
def test_what_surrounds_the_call_decides_nothing(surrounding: Callable[[], AbstractContextManager]) -> None:
    model = plain.host(plain.Block())
    with surrounding():
        visattn.attend(model, "cbam")
    for parameter in model.parameters():
        assert (parameter.dtype, parameter.device.type, parameter.is_inference()) == (torch.float32, "cpu", False)
    model(IMAGES).sum().backward()


def test_grey_and_odd_inputs() -> None:
    model = timm.create_model("test_resnet", in_chans=5).eval()
    x = torch.randn(1, 5, 64, 64)
    before = model(x)
    assert visattn.attend(model, "se")
    assert torch.equal(model(x), before)
    # the first convolution takes what a transform without weights makes of the image
    folded = nn.Sequential(nn.PixelUnshuffle(2), plain.layer(12), nn.AdaptiveAvgPool2d(1)).eval()
    assert visattn.attend(folded, "se", at="1.2", example=torch.zeros(1, 3, 64, 64))
    visattn.detach(folded)
    assert visattn.attend(folded, "se", at="1.2"), "three channels are tried where the convolution's do not do"


def test_segmentation_networks_by_their_backbone() -> None:
    model = torchvision.models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3
    ).eval()
    before = model(IMAGES)["out"]
    ends = [site for site in visattn.sites(model) if "stages" in site.placement]
    assert all(site.name.startswith("backbone.") for site in ends)
    assert not [site for site in visattn.sites(model) if site.placement == "pool"], "it pools for a gate"
    visattn.attend(model, "cbam", at="stages")
    assert torch.equal(model(IMAGES)["out"], before)


def test_traced_feature_extractors() -> None:
    whole = torchvision.models.get_model("resnet18")
    model = create_feature_extractor(whole, {"layer2": "fine", "layer4": "coarse"}).eval()
    before = model(IMAGES)
    sites = visattn.attend(model, "cbam", at="stages")
    assert [site.stage for site in sites] == [1, 2, 3, 4]
    after = model(IMAGES)
    assert all(torch.equal(after[key], before[key]) for key in before)
