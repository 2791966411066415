"""Spatial and channel attention for any CNN: correct blocks, safe insertion, visible maps, honest comparison.

Names are imported when they are first used, so that ``import visattn`` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.attention import block, blocks
    from visattn.insertion.attend import Site, attend, detach, sites
    from visattn.insertion.state import attention_state_dict, load_attention, save_attention
    from visattn.maps.capture import capture
    from visattn.models.create import create_model
    from visattn.models.detector import create_detector
    from visattn.models.loading import load_weights
    from visattn.models.parameters import freeze_host, param_groups
    from visattn.types import UsageError

__version__ = "0.1.0"

_HOMES = {
    "Site": "insertion.attend",
    "UsageError": "types",
    "attend": "insertion.attend",
    "attention_state_dict": "insertion.state",
    "block": "attention",
    "blocks": "attention",
    "capture": "maps.capture",
    "create_detector": "models.detector",
    "create_model": "models.create",
    "detach": "insertion.attend",
    "freeze_host": "models.parameters",
    "load_attention": "insertion.state",
    "load_weights": "models.loading",
    "param_groups": "models.parameters",
    "save_attention": "insertion.state",
    "sites": "insertion.attend",
}

__all__ = [
    "Site",
    "UsageError",
    "attend",
    "attention_state_dict",
    "block",
    "blocks",
    "capture",
    "create_detector",
    "create_model",
    "detach",
    "freeze_host",
    "load_attention",
    "load_weights",
    "param_groups",
    "save_attention",
    "sites",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visattn' has no attribute '{name}'")
    value = getattr(import_module(f"visattn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
