"""What runs beside training: pictures of maps, checkpoints, tables, reports.

Names are imported when they are first used; Lightning takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.callbacks.attention_maps import AttentionMaps

__all__ = ["AttentionMaps"]

_HOMES = {"AttentionMaps": "attention_maps"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
