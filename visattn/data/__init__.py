"""Pictures, labels and the order in which they are seen; each name is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.data.clutter import ClutterData
    from visattn.data.coco import CocoData
    from visattn.data.folder import FolderData
    from visattn.data.images import find_images, read_image
    from visattn.data.transforms import eval_transform
    from visattn.data.voc import VocData

__all__ = ["ClutterData", "CocoData", "FolderData", "VocData", "eval_transform", "find_images", "read_image"]

_HOMES = {
    "ClutterData": "clutter",
    "CocoData": "coco",
    "FolderData": "folder",
    "VocData": "voc",
    "eval_transform": "transforms",
    "find_images": "images",
    "read_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
