"""The images on which a host is tried."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visattn.types import UsageError

SIZES = ((96, 128), (160, 224))
LARGER = ((288, 320), (352, 416))  # for what makes its maps small, as an SSD does
USUAL = 224  # pixels a side, where a host that takes one size only does not say which


def attempts(host: nn.Module, example: Tensor | None, *, one_size: bool) -> list[tuple[Tensor, ...]]:
    """Return what to run ``host`` on: pairs of sizes first, then, with ``one_size``, its own single size.

    Raises:
        UsageError: ``example`` is no tensor ``(N, C, H, W)``.
    """
    if example is not None:
        if not isinstance(example, Tensor) or example.dim() != 4:
            raise UsageError(f"example must be a tensor (N, C, H, W), got {getattr(example, 'shape', type(example))}")
        h, w = int(example.shape[2]), int(example.shape[3])
        around = w + 32 if w == h else w
        pair = ((h, around), (h + 64, around + 96 if around + 96 != h + 64 else around + 128))
        shapes: list[tuple[tuple[int, ...], ...]] = [tuple((example.shape[1], *size) for size in pair)]
        shapes += [((example.shape[1], h, w),)] if one_size else []
        like = example
    else:
        declared = _declared(host)
        conv = next((m for m in host.modules() if isinstance(m, nn.Conv2d)), None)
        depths = dict.fromkeys([conv.in_channels if conv is not None else declared[0], declared[0]])
        shapes = [tuple((channels, *size) for size in pair) for pair in (SIZES, LARGER) for channels in depths]
        shapes += [((channels, *declared[1:]),) for channels in depths] if one_size else []
        like = next((p for p in host.parameters() if p.is_floating_point()), torch.zeros(1))
    generator = torch.Generator(device="cpu").manual_seed(0)
    return [
        tuple(torch.randn(1, *shape, generator=generator, device="cpu").to(like.device, like.dtype) for shape in images)
        for images in shapes
    ]


def _declared(host: nn.Module) -> tuple[int, int, int]:
    """Return channels, height and width that the host says it was made for; 3x224x224 where it says nothing."""
    config: Any = getattr(host, "pretrained_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, dict) else None
    if isinstance(size, tuple | list) and len(size) == 3:
        return size[0], size[1], size[2]
    side = getattr(host, "image_size", USUAL)
    return (3, side, side) if isinstance(side, int) else (3, USUAL, USUAL)
