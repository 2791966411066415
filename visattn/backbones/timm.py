"""Hosts from timm."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from visattn.types import UsageError, unknown


def build(name: str, *, num_classes: int | None, pretrained: bool, **keywords: Any) -> nn.Module:
    """Return timm's model ``name``; ``keywords`` go to its constructor.

    Raises:
        UsageError: no such model, a keyword that it refuses, or weights that cannot be had.
    """
    if not timm.is_model(name):
        raise unknown("backbone", name, timm.list_models())
    if num_classes is not None:
        keywords["num_classes"] = num_classes
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **keywords)
    except Exception as error:
        # timm and its hub raise everything from TypeError to their own; all of it is one user's mistake or no network
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        wanted = "pretrained weights of " if pretrained else ""
        hint = "; without a network pass weights=FILE" if pretrained else ""
        raise UsageError(f"{wanted}backbone '{name}' cannot be had: {reason}{hint}") from error
    return model
