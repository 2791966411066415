"""From a name and an attention spec to a model."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from visattn.insertion.attend import attend
from visattn.models.loading import load_weights
from visattn.types import AttentionSpec, Init, UsageError

TORCHVISION = "torchvision:"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def create_model(
    name: str | nn.Module,
    *,
    attention: AttentionSpec = None,
    attention_init: Init = "identity",
    num_classes: int | None = None,
    pretrained: bool = False,
    weights: str | PathLike[str] | None = None,
    rename: Mapping[str, str] | None = None,
    pool: str | None = None,
    **host: Any,
) -> nn.Module:
    """Build a host and insert attention into it.

    The host is built, and its weights are loaded, before any block exists: with the same seed a
    baseline and its attention twin share every host weight, and the generator is left alike.

    Args:
        name: a timm model, ``torchvision:<model>``, or a module of your own (changed in place).
        attention: what to insert where, as in ``visattn.attend``; ``None`` is the baseline.
        attention_init: the start of specs that name none, ``identity`` or ``paper``.
        num_classes: classes of the head; ``None`` keeps the host's own.
        pretrained: load the library's pretrained weights.
        weights: a local file of host weights, loaded by ``visattn.load_weights``.
        rename: prefixes of the file's keys to those of the host, such as ``{"linear.": "fc."}``.
        pool: the pooling head that replaces global average pooling, such as ``additive``.
        **host: keywords of the host's constructor.

    Raises:
        UsageError: an unknown name, spec or keyword, or weights that cannot be had or do not fit.

    Example:
        >>> model = create_model("test_resnet", attention="eca", num_classes=10)
        >>> sum("attention" in key for key in model.state_dict()) > 0
        True
    """
    model = build_host(name, num_classes, pretrained=pretrained, **host)
    if weights is not None:
        load_weights(model, Path(weights), rename=rename)
    attend(model, attention, init=attention_init)
    if pool is not None:
        attend(model, pool, at="pool", init=attention_init)
    return model


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation, for images in 0 to 1, that the host was made for.

    Example:
        >>> normalisation(nn.Identity())[0]
        (0.485, 0.456, 0.406)
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    return tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))


def build_host(name: str | nn.Module, num_classes: int | None, *, pretrained: bool, **host: Any) -> nn.Module:
    """Return the host ``name``, a timm name, ``torchvision:<model>`` or a module, as its library builds it."""
    if isinstance(name, nn.Module):
        told = {"num_classes": num_classes, "pretrained": pretrained or None, **host}
        for key, value in told.items():
            if value is not None:
                raise UsageError(f"{key}={value!r} for a {type(name).__name__} of your own, which is taken as it is")
        return name
    if name.startswith(TORCHVISION):
        from visattn.backbones import torchvision as library

        return library.build(name.removeprefix(TORCHVISION), num_classes=num_classes, pretrained=pretrained, **host)
    from visattn.backbones import timm as timm_library

    return timm_library.build(name, num_classes=num_classes, pretrained=pretrained, **host)
