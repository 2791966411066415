"""What attention costs, measured side by side: parameters, MACs, time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.bench.cost import measure_cost

__all__ = ["measure_cost"]


def __getattr__(name: str) -> Any:
    # late: listing the commands must not load torch
    if name in __all__:
        from visattn.bench import cost

        return getattr(cost, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
