"""Pictures in, uint8 batches out: data modules, their samplers and transforms.

Names are imported when they are first used; Lightning takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.data.clutter import ClutterData
    from visattn.data.folder import FolderData

__all__ = ["ClutterData", "FolderData"]

_HOMES = {"ClutterData": "clutter", "FolderData": "folder"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
