"""Detectors from a name: torchvision's own, bit for bit, over hosts that stay what they are as classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from grid import SMALL, batch, target
from torch import nn
from torchvision.models import detection

import visattn
from visattn.heads import ARCHITECTURES
from visattn.insertion.wrapper import attended
from visattn.maps import to_pictures
from visattn.models.levels import find_levels
from visattn.types import UsageError


def build(arch: str = "fcos", backbone: Any = "test_resnet", **keywords: Any) -> Any:
    torch.manual_seed(0)
    return visattn.create_detector(arch, backbone, **{**SMALL, **keywords})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "theirs", "background"),
    [
        ("fasterrcnn", detection.fasterrcnn_resnet50_fpn, 1),
        ("retinanet", detection.retinanet_resnet50_fpn, 0),
        ("fcos", detection.fcos_resnet50_fpn, 0),
    ],
)
def test_torchvisions_own_detector_is_one_of_ours(arch: str, theirs: Any, background: int) -> None:
    torch.manual_seed(0)
    reference = theirs(weights=None, weights_backbone=None, num_classes=7 + background, min_size=128)
    scale = {} if arch == "fcos" else {"anchor_scale": 1.0}
    ours = visattn.create_detector(arch, "torchvision:resnet50", num_classes=7, image_size=128, **scale)
    ours.load_state_dict(reference.state_dict(), strict=True)
    images = [torch.rand(3, 120, 150), torch.rand(3, 100, 160)]
    targets = [target((2, 10, 10, 80, 90)), target((0, 10, 30, 80, 60), (6, 3, 3, 60, 60))]
    torch.manual_seed(1)
    losses = ours(images, targets)
    torch.manual_seed(1)
    expected = reference(images, [{**t, "labels": t["labels"] + background} for t in targets])
    assert losses == expected
    for model in (ours, reference):
        model.eval()
        model.score_thresh = 0.0
    for one, other in zip(ours(images), reference(images), strict=True):
        assert len(one["boxes"]) > 0
        assert torch.equal(one["boxes"], other["boxes"])
        assert torch.equal(one["scores"], other["scores"])
        assert torch.equal(one["labels"] + background, other["labels"])


@pytest.mark.parametrize("host", ["test_convnext", "densenet121"])
def test_one_attention_file_serves_classifier_and_detector(host: str, tmp_path: Path) -> None:
    classifier = visattn.create_model(host, attention="cbam", num_classes=5)
    detector = build(backbone=host, attention="cbam")
    for parameter in visattn.attention_state_dict(classifier).values():
        if parameter.is_floating_point():
            nn.init.normal_(parameter)
    visattn.save_attention(classifier, tmp_path / "there.safetensors")
    visattn.load_attention(detector.body, tmp_path / "there.safetensors")
    visattn.save_attention(detector.body, tmp_path / "back.safetensors")
    fresh = visattn.create_model(host, attention="cbam", num_classes=5)
    visattn.load_attention(fresh, tmp_path / "back.safetensors")
    expected, found = visattn.attention_state_dict(classifier), visattn.attention_state_dict(fresh)
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_one_pattern_serves_classifier_and_detector() -> None:
    spec = {"layer3.*.bn?": "eca", "stage:4": {"block": "gc", "reduction": 4}}
    models = visattn.create_model("test_resnet", attention=spec), build(attention=spec).body
    sites = [sorted(attended(model)) for model in models]
    assert sites[0] == sites[1] != []


def test_a_classifiers_checkpoint_fits_strictly(tmp_path: Path) -> None:
    classifier = timm.create_model("test_efficientnet")
    detector = build(backbone="test_efficientnet", attention="eca")
    assert not any(key.startswith(("conv_head", "classifier")) for key in detector.body.state_dict())
    detector.body.load_state_dict(classifier.state_dict(), strict=True)
    own = classifier.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in detector.body.state_dict().items() if ".attention." not in k)
    with pytest.raises(RuntimeError, match="unknown_key"):
        detector.body.load_state_dict({**own, "unknown_key": torch.zeros(1)}, strict=True)
    torch.save(classifier.state_dict(), tmp_path / "host.pth")
    loaded = build(backbone="test_efficientnet", weights=tmp_path / "host.pth")
    assert torch.equal(loaded.body.conv_stem.weight, classifier.conv_stem.weight)


def test_the_twin_of_a_baseline_shares_its_weights_and_the_generator() -> None:
    states = []
    models = [build(attention=spec) for spec in (None, {"fpn": "cbam", "paper": "coordatt"})]
    for spec in (None, {"fpn": "cbam", "paper": "coordatt"}):
        build(attention=spec)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    own = models[1].state_dict()
    assert all(torch.equal(value, own[key]) for key, value in models[0].state_dict().items())


@pytest.mark.parametrize(
    ("host", "finest", "strides"),
    [("dla46_c", 4, [4, 8, 16, 32]), ("dla46_c", 8, [8, 16, 32]), ("test_convnext", 4, [4, 8, 16, 32])],
)
def test_levels_are_chosen_by_stride(host: str, finest: int, strides: list[int]) -> None:
    model = timm.create_model(host).eval()
    levels = find_levels(model, finest)
    info = {item["reduction"]: item["num_chs"] for item in model.feature_info}
    assert [level.stride for level in levels] == strides
    assert [level.channels for level in levels] == [info[stride] for stride in strides]


def test_an_activation_in_place_belongs_to_its_level() -> None:
    # torchvision's last block is conv, norm, activation in place: all three return one tensor
    names = [level.name for level in find_levels(timm_free("mobilenet_v2"), 8)]
    assert names[-1] == "features.18.2"


def timm_free(name: str) -> nn.Module:
    from visattn.models.create import build_host

    return build_host(f"torchvision:{name}", None, pretrained=False)


class Overwriting(nn.Module):
    """Three stages, of which the second's map is changed in place by what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, o, s, s) for i, o, s in [(3, 8, 8), (8, 8, 2), (8, 8, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x))
        return self.c(x.relu_())


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("vit_tiny_patch16_224", "cannot carry a detector"),
        ("mambaout_femto", "are its last axis"),
        ("inception_v3", "no whole stride"),
        ("torchvision:alexnet", "cannot carry a detector"),
        (nn.Sequential(nn.Conv2d(3, 8, 3, stride=4)), "lack 8, 16, 32"),
        (Overwriting(), "overwrites its map in place"),
    ],
    ids=str,
)
def test_hosts_that_cannot_carry_a_detector(backbone: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build(backbone=backbone)
    assert "\n" not in str(caught.value)
    assert "resnet18" in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "keywords", "message"),
    [
        ("yolo", {}, "unknown detector 'yolo'"),
        ("fcos", {"num_classes": 0}, "num_classes must be at least 1"),
        ("fcos", {"channels": 48}, "channels must be a multiple of 32 from 64, got 48"),
        ("fcos", {"norms": "froze"}, "unknown norms 'froze'; did you mean 'frozen'"),
        ("fcos", {"image_size": []}, "image_size"),
        ("fcos", {"image_size": 16}, "image_size=16"),
        ("fcos", {"image_size": [96, 800], "max_size": 640}, "max_size=640 is below image_size=800"),
        ("fcos", {"anchor_scale": 1.0}, "fcos, which has no anchors"),
        ("ssd", {"image_size": [96, 128]}, "for ssd; valid: one number"),
        ("fcos", {"attention": {"pool": "additive"}}, "would never run"),
        ("fcos", {"attention": "cbma"}, "unknown block 'cbma'"),
        ("fcos", {"backbone": "resnet_18"}, "unknown backbone"),
    ],
)
def test_refusals(arch: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(arch, **keywords)


def test_sites_behind_the_last_level_are_told_of() -> None:
    # timm takes this host's features before its last stage
    with pytest.warns(UserWarning, match="4 of 16 sites are left out"):
        detector = build(backbone="ghostnet_050", attention="eca")
    assert "blocks.8" not in " ".join(attended(detector.body))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_attention_at_the_pyramid_and_in_the_backbone(arch: str) -> None:
    detector = build(arch, attention={"fpn": "cbam", "layer4.*.bn2": {"block": "eca", "init": "paper"}})
    levels = 4 if arch == "fasterrcnn" else 3
    names = list(attended(detector))
    assert [n for n in names if "fpn" in n] == [f"backbone.fpn.layer_blocks.{i}.0" for i in range(levels)]
    assert [n for n in names if "body" in n] == ["backbone.body.layer4.0.bn2"]
    images, _ = batch()
    detector.eval()
    with visattn.capture(detector) as maps:
        detector(images)
    finest = maps.plane("backbone.fpn.layer_blocks.0.0/cbam.spatial")
    drawn = to_pictures(finest, detector.frames)
    assert [tuple(one.shape) for one in drawn] == [tuple(image.shape[1:]) for image in images]


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_fpn_finds_the_outputs_of_torchvisions_pyramids(norm: Any) -> None:
    from torchvision.models import resnet18
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    layers, channels = {"layer2": "0", "layer3": "1", "layer4": "2"}, [128, 256, 512]
    backbone = BackboneWithFPN(resnet18(), layers, channels, 32, norm_layer=norm).eval()
    images = torch.rand(1, 3, 64, 96)
    expected = backbone(images)
    sites = visattn.attend(backbone, {"block": "cbam", "at": "fpn", "stages": [2, 3]})
    last = "0" if norm is None else "1"
    assert [site.name for site in sites] == [f"fpn.layer_blocks.{i}.{last}" for i in (0, 1)]
    assert [site.channels for site in sites] == [32, 32]
    assert all(torch.equal(x, expected[name]) for name, x in backbone(images).items())
    with pytest.raises(UsageError, match="fpn"):
        visattn.attend(resnet18(), "cbam", at="fpn")


def test_norms_are_frozen_or_synchronised() -> None:
    frozen = build(backbone="regnety_002", norms="frozen", attention="coordatt").train()
    modes = {m.training for m in frozen.body.modules() if isinstance(m, nn.BatchNorm2d)}
    assert modes == {True, False}, "the host's are frozen, those of the blocks are not"
    plain, synced = build(backbone="regnety_002"), build(backbone="regnety_002", norms="sync", attention="coordatt")
    kinds = [type(m).__name__ for m in synced.body.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert "SyncBatchNormAct" in kinds
    assert kinds.count("BatchNorm2d") == len(attended(synced.body)), "one in each block"
    images, _ = batch()
    one, other = (model.eval().backbone(torch.stack([images[0], images[0]])) for model in (plain, synced))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_sizes_scale_anchors_and_pictures() -> None:
    detector = build("retinanet", image_size=[96, 160, 400])
    assert detector.anchor_generator.sizes[0] == (16.0, 20.0, 25.0)
    assert build("fasterrcnn", image_size=400).rpn.anchor_generator.sizes[0] == (16.0,)
    images, targets = batch()
    seen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        detector.train()(images, targets)
        seen |= {min(size) for size in detector.frames.scaled}
    assert len(seen) > 1
    detector.eval()(images)
    assert {min(size) for size in detector.frames.scaled} == {400}
