"""Files that run without visattn, checked against the model that they came from."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.export.detector import export_detector
    from visattn.export.onnx import export_onnx
    from visattn.export.program import export_program

_HOMES = {"export_detector": "detector", "export_onnx": "onnx", "export_program": "program"}

__all__ = ["export_detector", "export_onnx", "export_program"]


def __getattr__(name: str) -> Any:
    # late: listing the commands must not load torch
    if name in _HOMES:
        return getattr(import_module(f"visattn.export.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
