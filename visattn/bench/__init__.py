"""What attention costs, measured side by side: parameters, MACs, time and memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.bench.blocks import measure_blocks
    from visattn.bench.cost import measure_cost

__all__ = ["measure_blocks", "measure_cost"]

_FILES = {"measure_blocks": "blocks", "measure_cost": "cost"}


def __getattr__(name: str) -> Any:
    # late: listing the commands must not load torch
    if name in _FILES:
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
