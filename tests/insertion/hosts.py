"""The one table of hosts: small variants of the families that people attend."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import timm
import torch
import torchvision
from torch import nn


class Host(NamedTuple):
    """A host and what insertion is to find in it."""

    name: str
    residual: int  # ends of residual branches
    stages: tuple[str, ...]  # the last child module of each stage from stride 4
    pool: str | None


HOSTS = [
    Host("resnet18", 8, ("layer1.1", "layer2.1", "layer3.1", "layer4.1"), "global_pool"),
    Host("resnet26", 8, ("layer1.1", "layer2.1", "layer3.1", "layer4.1"), "global_pool"),
    Host("resnetv2_50", 16,
         ("stages.0.blocks.2", "stages.1.blocks.3", "stages.2.blocks.5", "stages.3.blocks.2"), "head.global_pool"),
    Host("resnext26ts", 8, ("stages.0.1", "stages.1.1", "stages.2.1", "final_conv"), "head.global_pool"),
    Host("seresnet18", 8, ("layer1.1", "layer2.1", "layer3.1", "layer4.1"), "global_pool"),
    Host("res2net50_14w_8s", 16, ("layer1.2", "layer2.3", "layer3.5", "layer4.2"), "global_pool"),
    Host("regnetx_002", 13, ("s1.b1", "s2.b1", "s3.b4", "s4.b7"), "head.global_pool"),
    Host("regnety_002", 13, ("s1.b1", "s2.b1", "s3.b4", "s4.b7"), "head.global_pool"),
    Host("convnext_atto", 12,
         ("stages.0.blocks.1", "stages.1.blocks.1", "stages.2.blocks.5", "stages.3.blocks.1"), "head.global_pool"),
    Host("efficientnet_b0", 9, ("blocks.1.1", "blocks.2.1", "blocks.4.2", "blocks.6.0"), "global_pool"),
    Host("mobilenetv2_050", 10, ("blocks.1.1", "blocks.2.2", "blocks.4.2", "blocks.6.0"), "global_pool"),
    Host("mobilenetv3_small_050", 7, ("blocks.0.0", "blocks.1.1", "blocks.3.1", "blocks.5.0"), "global_pool"),
    Host("densenet121", 0,
         ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"), "global_pool"),
    Host("vgg11_bn", 0, ("features.13", "features.20", "features.27", "features.28"), None),
    Host("torchvision:resnet18", 8, ("layer1.1", "layer2.1", "layer3.1", "layer4.1"), "avgpool"),
    Host("torchvision:resnet50", 16, ("layer1.2", "layer2.3", "layer3.5", "layer4.2"), "avgpool"),
    Host("torchvision:mobilenet_v2", 10, ("features.3", "features.6", "features.13", "features.18.1"), None),
]  # fmt: skip


def build(name: str) -> nn.Module:
    """Return the host in eval mode with every parameter and statistic away from its start."""
    torch.manual_seed(0)
    if name.startswith("torchvision:"):
        model = torchvision.models.get_model(name.removeprefix("torchvision:"), num_classes=5)
    else:
        model = timm.create_model(name, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def fingerprint(model: nn.Module) -> str:
    """Hash all that a user can see of a model: structure, identities, names, values, modes, hooks."""
    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    for name, module in model.named_modules(remove_duplicate=False):
        hooks = len(module._forward_hooks), len(module._forward_pre_hooks), len(module._load_state_dict_pre_hooks)
        digest.update(repr((name, id(module), list(module._buffers), module.training, hooks)).encode())
    return digest.hexdigest()
