"""Files that run without visattn, checked against the model that they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.export.onnx import export_onnx

__all__ = ["export_onnx"]


def __getattr__(name: str) -> Any:
    # late: listing the commands must not load torch
    if name in __all__:
        from visattn.export import onnx

        return getattr(onnx, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
