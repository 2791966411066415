"""Where papers and their authors' code put blocks: the modules found, and what the block sees there."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torchvision
from hosts import build

import visattn
from visattn.attention import block_class, blocks


class Row(NamedTuple):
    """A block in a host: how many sites, two of them with their channels, and a word of the source."""

    block: str
    host: str
    count: int
    first: tuple[str, int]
    last: tuple[str, int]
    source: str


ROWS = [
    Row("se", "resnet18", 8, ("layer1.0.bn2", 64), ("layer4.1.bn2", 512), "figure 3"),
    Row("se", "mobilenetv2_050", 16, ("blocks.1.0.conv_pwl", 48), ("blocks.6.0.conv_pwl", 480), "MobileNetV3"),
    Row("se", "torchvision:mobilenet_v2", 16, ("features.2.conv.2", 96), ("features.17.conv.2", 960), "MobileNetV3"),
    Row("se", "regnetx_002", 13, ("s1.b1.conv2", 24), ("s4.b7.conv2", 368), "RegNetY"),
    Row("eca", "resnet18", 8, ("layer1.0.bn2", 64), ("layer4.1.bn2", 512), "eca_resnet.py"),
    Row("eca", "mobilenetv2_050", 17, ("blocks.0.0.bn2", 8), ("blocks.6.0.bn3", 160), "eca_mobilenetv2.py"),
    Row("eca", "torchvision:mobilenet_v2", 17, ("features.1.conv.2", 16), ("features.17.conv.3", 320), "eca_mobilenet"),
    Row("triplet", "mobilenetv2_050", 17, ("blocks.0.0.bn2", 8), ("blocks.6.0.bn3", 160), "MODELS/mobilenet.py"),
    Row("coordatt", "mobilenetv2_050", 16, ("blocks.1.0.conv_pwl", 48), ("blocks.6.0.conv_pwl", 480), "mbv2_ca.py"),
    Row("coordatt", "torchvision:mobilenet_v2", 16, ("features.2.conv.2", 96), ("features.17.conv.2", 960), "mbv2_ca"),
    Row("scsa", "mobilenetv2_050", 17, ("blocks.0.0.conv_pw", 16), ("blocks.6.0.conv_pwl", 480), "depth-wise"),
    Row("simam", "resnet18", 8, ("layer1.0.conv2", 64), ("layer4.1.conv2", 512), "before bn2"),
    Row("gct", "resnet18", 16, ("layer1.0.conv1", 64), ("layer4.1.conv2", 512), "before every convolution"),
    Row("bam", "resnet18", 3, ("layer1.1", 64), ("layer3.1", 256), "after stages 1"),
    Row("gc", "resnet18", 6, ("layer2.0.bn2", 128), ("layer4.1.bn2", 512), "after the last norm"),
    Row("nonlocal", "torchvision:resnet50", 5, ("layer2.1", 512), ("layer3.5", 1024), "5 blocks"),
    Row("scse", "densenet121", 4, ("features.denseblock1", 256), ("features.norm5", 1024), "encoder block"),
    Row("ese", "ese_vovnet19b_slim", 4, ("stages.0.blocks.0.conv_concat", 112),
        ("stages.3.blocks.0.conv_concat", 512), "VoVNetV2"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.block}-{row.host}")
def test_places(row: Row) -> None:
    sites = visattn.attend(build(row.host), row.block)
    found = [(site.name, site.channels) for site in sites]
    assert (len(found), found[0], found[-1]) == (row.count, row.first, row.last)
    assert {site.placement for site in sites} == {sites[0].placement}
    assert sites[0].placement.startswith("paper: ")
    assert row.source in sites[0].placement


@pytest.mark.parametrize("name", blocks())
def test_every_place_has_a_source(name: str) -> None:
    for place in block_class(name).paper.values():
        assert len(place.source) > 10


def test_inception_modules_are_attended_whole() -> None:
    model = torchvision.models.get_model("googlenet", init_weights=False)
    assert [site.name for site in visattn.attend(model, "se")] == [
        f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]


@pytest.mark.parametrize(
    ("host", "placement"),
    [
        ("convnext_atto", "residual"),  # branches in every stage
        ("hgnetv2_b0", "stages"),  # one branch, in one stage of four
        ("vgg11_bn", "stages"),
    ],
)
def test_hosts_that_no_paper_names(host: str, placement: str) -> None:
    assert {site.placement for site in visattn.attend(build(host), "cbam")} == {placement}
