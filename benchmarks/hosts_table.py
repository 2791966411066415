"""The hosts that ``benchmarks/hosts.py`` goes through: each of another family, small, with random weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

TORCHVISION, DETECTION, PLAIN = "torchvision:", "torchvision-detection:", "plain:"


class Host(NamedTuple):
    """A host by name, its family, the size of its images, and keywords of its constructor."""

    name: str
    family: str
    size: int = 64
    keywords: dict[str, Any] = {}  # noqa: RUF012 - a default that nobody changes


# quick ones first, so that a run that is cut short has seen many families
HOSTS = [
    Host("resnet18", "ResNet"),
    Host("mobilenetv2_050", "MobileNet V2"),
    Host("mobilenetv3_small_050", "MobileNet V3"),
    Host("efficientnet_b0", "EfficientNet"),
    Host("convnext_atto", "ConvNeXt"),
    Host("regnetx_002", "RegNet X"),
    Host("regnety_002", "RegNet Y"),
    Host("densenet121", "DenseNet"),
    Host("vgg11_bn", "VGG", keywords={"mlp_ratio": 0.05}),
    Host("seresnet18", "SE-ResNet"),
    Host("torchvision:resnet18", "ResNet (torchvision)"),
    Host("plain:cnn", "plain nn.Module"),
    Host("resnetv2_18", "ResNet V2"),
    Host("skresnet18", "SKNet"),
    Host("resnest14d", "ResNeSt"),
    Host("legacy_seresnet18", "SENet"),
    Host("res2net50_14w_8s", "Res2Net"),
    Host("resnext26ts", "ByobNet"),
    Host("convnextv2_atto", "ConvNeXt V2"),
    Host("dla46_c", "DLA"),
    Host("dpn48b", "DPN"),
    Host("mobilenetv4_conv_small", "MobileNet V4"),
    Host("tf_efficientnetv2_b0", "EfficientNet V2"),
    Host("hardcorenas_a", "HardCoRe-NAS"),
    Host("mnasnet_small", "MnasNet"),
    Host("ghostnet_050", "GhostNet"),
    Host("repghostnet_050", "RepGhost"),
    Host("repvgg_a0", "RepVGG"),
    Host("mobileone_s0", "MobileOne"),
    Host("repvit_m0_9", "RepViT"),
    Host("fastvit_t8", "FastViT"),
    Host("hgnetv2_b0", "HGNet V2"),
    Host("hrnet_w18_small", "HRNet"),
    Host("inception_next_atto", "InceptionNeXt"),
    Host("lcnet_050", "LCNet"),
    Host("lcnetv2_small", "LCNet V2"),
    Host("rexnet_100", "ReXNet"),
    Host("ese_vovnet19b_slim_dw", "VoVNet"),
    Host("starnet_s050", "StarNet"),
    Host("shvit_s1", "SHViT", 128),
    Host("swiftformer_xs", "SwiftFormer"),
    Host("poolformerv2_s12", "MetaFormer"),
    Host("efficientvit_b0", "EfficientViT (MIT)"),
    Host("efficientvit_m0", "EfficientViT (MSRA)", 128),
    Host("edgenext_xx_small", "EdgeNeXt"),
    Host("mobilevit_xxs", "MobileViT"),
    Host("test_coatnet", "CoAtNet", 160),
    Host("cs3darknet_focus_s", "CSPDarkNet"),
    Host("cspnext_tiny", "CSPNeXt"),
    Host("nf_regnet_b0", "NFNet"),
    Host("fasternet_t0", "FasterNet"),
    Host("cpubone_nano", "CPUBone"),
    Host("iformer_t", "iFormer"),
    Host("pvt_v2_b0", "PVT V2"),
    Host("csatv2", "CSATv2", 128),
    Host("torchvision:mobilenet_v2", "MobileNet V2 (torchvision)"),
    Host("torchvision:mobilenet_v3_small", "MobileNet V3 (torchvision)"),
    Host("torchvision:efficientnet_b0", "EfficientNet (torchvision)"),
    Host("torchvision:regnet_x_400mf", "RegNet (torchvision)"),
    Host("torchvision:shufflenet_v2_x0_5", "ShuffleNet V2 (torchvision)"),
    Host("torchvision:squeezenet1_1", "SqueezeNet (torchvision)"),
    Host("torchvision:mnasnet0_5", "MnasNet (torchvision)"),
    Host("torchvision:googlenet", "GoogLeNet (torchvision)", 96, {"init_weights": False}),
    Host("torchvision-detection:ssdlite320_mobilenet_v3_large", "SSDlite (torchvision)"),
    Host("torchvision-detection:fasterrcnn_mobilenet_v3_large_320_fpn", "Faster R-CNN (torchvision)"),
    Host("lowformer_b0", "LowFormer"),
    Host("selecsls42", "SelecSLS", 128),
    Host("tresnet_m", "TResNet"),
    Host("legacy_xception", "Xception", 96),
    Host("inception_v3", "Inception V3", 128),
    Host("rdnet_tiny", "RDNet"),
    Host("nextvit_small", "NextViT"),
    Host("focalnet_tiny_srf", "FocalNet"),
    Host("davit_tiny", "DaViT"),
    Host("torchvision:convnext_tiny", "ConvNeXt (torchvision)"),
    Host("torchvision-detection:retinanet_resnet50_fpn", "RetinaNet (torchvision)"),
    Host("torchvision-detection:fcos_resnet50_fpn", "FCOS (torchvision)"),
    Host("tiny_vit_5m_224", "TinyViT", 224),
    Host("efficientformerv2_s0", "EfficientFormer V2", 224),
    Host("gcvit_xxtiny", "GCViT", 224),
]

# hosts that no word of `at` finds a place in: the page names their reasons
NO_MAPS = [
    "test_vit", "deit_tiny_patch16_224", "beit_base_patch16_224", "eva02_tiny_patch14_224", "cait_xxs24_224",
    "convit_tiny", "xcit_nano_12_p8_224", "gmlp_ti16_224", "levit_128s", "pit_ti_224", "volo_d1_224", "coat_tiny",
    "crossvit_tiny_240", "twins_svt_small", "mvitv2_tiny", "hiera_tiny_224", "efficientvim_m1", "test_mambaout",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "sequencer2d_s", "sam2_hiera_tiny",
    "torchvision:vit_b_16", "torchvision:swin_t",
]  # fmt: skip


class CNN(nn.Module):
    """A network that nobody's library holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
            for i, o in ((3, 16), (16, 32), (32, 64), (64, 64))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for layer in self.layers:
            x = layer(x)
        return self.fc(self.pool(x).flatten(1))


def build(host: Host) -> nn.Module:
    """Return the host in eval mode; its norms, their statistics and its gains are away from their start."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's about its own defaults
        model = _build(host)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in model.parameters():
        if parameter.numel() == 1 and not parameter.any():
            nn.init.constant_(parameter, 0.5)  # NFNet's gains: behind a factor of 0 nothing gets a gradient
    return model.eval()


def _build(host: Host) -> nn.Module:
    library, _, name = host.name.rpartition(":")
    if f"{library}:" == PLAIN:
        return CNN()
    if f"{library}:" == DETECTION:
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **host.keywords)
        # small pictures stay small; SSDlite's anchors need its own size
        if "ssd" not in name:
            model.transform.min_size, model.transform.max_size = (96,), 160
        return model
    if f"{library}:" == TORCHVISION:
        return torchvision.models.get_model(name, weights=None, num_classes=10, **host.keywords)
    return timm.create_model(name, num_classes=10, **host.keywords)
