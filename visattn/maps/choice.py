"""Which layer a class map is taken at, and which maps are worth a picture."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.insertion.attend import sites
from visattn.insertion.trunk import modules
from visattn.maps.capture import Maps
from visattn.types import UsageError

SMALLEST = 4  # positions a side below which a map says nothing about where


def class_map_layer(network: nn.Module, image_size: int) -> nn.Module:
    """Return the end of the deepest stage whose features still have a few positions a side.

    Raises:
        UsageError: ``network`` has no stage.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> class_map_layer(host, 64)
        ReLU()
    """
    stages = [s for s in sites(network) if "stages" in s.placement and s.stage is not None]
    if not stages:
        raise UsageError(f"{type(network).__name__} has no stage to take a class map at")
    fine = [s for s in stages if image_size / 2 ** ((s.stage or 0) + 1) >= SMALLEST] or stages[:1]
    return modules(network)[fine[-1].name]


def shown_maps(maps: Maps) -> list[str]:
    """Return the keys worth a picture: of each tap the deepest map of each size that has a few positions."""
    best: dict[tuple[Any, ...], str] = {}
    for key in maps:
        info, shape = maps.info(key), maps[key].shape
        if info.kind == "channel":
            best[info.block, info.tap] = key  # the last site's
        elif info.kind in {"spatial", "full", "pool"} and max(shape[2:]) >= SMALLEST:
            best[info.block, info.tap, tuple(shape[2:])] = key
    return list(best.values())
