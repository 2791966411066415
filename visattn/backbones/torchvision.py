"""Hosts from torchvision."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import get_model, list_models

from visattn.types import UsageError, unknown


def build(name: str, *, num_classes: int | None, pretrained: bool, **keywords: Any) -> nn.Module:
    """Return torchvision's classification model ``name``.

    With pretrained weights and another number of classes, the last linear layer is laid anew.

    Raises:
        UsageError: no such model, a keyword that it refuses, or weights that cannot be had.
    """
    import torchvision

    if name not in list_models(module=torchvision.models):
        raise unknown("backbone", name, list_models(module=torchvision.models))
    if num_classes is not None and not pretrained:
        keywords["num_classes"] = num_classes
    try:
        model: nn.Module = get_model(name, weights="DEFAULT" if pretrained else None, **keywords)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"backbone 'torchvision:{name}' cannot be had: {reason}") from error
    if pretrained and num_classes is not None:
        _new_head(model, num_classes)
    return model


def _new_head(model: nn.Module, num_classes: int) -> None:
    linear = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise UsageError(f"{type(model).__name__} has no linear head to lay anew for {num_classes} classes")
    path, last = linear[-1]
    if last.out_features != num_classes:
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Linear(last.in_features, num_classes))
