"""A feature pyramid over a plain host: its maps are taken where they are made, and nothing behind the last one runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from visattn.attention._contract import AbstractAttention
from visattn.types import UsageError


class Level(NamedTuple):
    """A map of a host that a pyramid is built on."""

    name: str  # the module that returns it
    stride: int
    channels: int


class _Reached(Exception):  # noqa: N818 - no error: the last map is there
    """Leaves the host's forward pass behind its last level."""


def features(body: nn.Module, names: Sequence[str], images: Tensor) -> list[Tensor]:
    """Run ``body`` as far as the last of the modules ``names`` and return what these return.

    The hooks live for one call: ``SyncBatchNorm.convert_sync_batchnorm`` would drop lasting ones, and
    a copy of the model would share them.

    Raises:
        UsageError: one of the modules was not called.

    Example:
        >>> body = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 16, 2, 2), nn.Flatten(), nn.Linear(1, 5))
        >>> [tuple(x.shape) for x in features(body, ["0", "1"], torch.zeros(1, 3, 8, 8))]
        [(1, 8, 4, 4), (1, 16, 2, 2)]
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            found[name] = output
            if len(found) == len(names):
                raise _Reached

        return hook

    handles = [body.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        body(images)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(f"{type(body).__name__} did not call {', '.join(missing)}, whose maps the pyramid is made of")
    return [found[name] for name in names]


def host_norms(body: nn.Module) -> Iterator[nn.Module]:
    """Yield the batch norms of ``body`` that are not inside inserted blocks.

    Example:
        >>> len(list(host_norms(nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3)))))
        1
    """
    if isinstance(body, AbstractAttention):
        return
    if isinstance(body, _BatchNorm):
        yield body
    for child in body.children():
        yield from host_norms(child)


class Pyramid(nn.Module):
    """The host ``body`` and torchvision's pyramid ``fpn`` over its ``levels``.

    Keys are those of torchvision's own detectors: ``body.<host key>`` and ``fpn.<...>``.

    Shapes:
        - input: ``(N, 3, H, W)``, normalised.
        - output: an ordered dict of maps ``(N, out_channels, h, w)``, finest first.

    Args:
        body: the host, attended or not.
        levels: its maps, finest first.
        extra: torchvision's block that adds coarser levels.
        out_channels: channels of every map of the pyramid.
        frozen: the host's batch norms keep their statistics, scale and shift, in training too; those
            inside inserted blocks learn as ever.
    """

    def __init__(
        self, body: nn.Module, levels: Sequence[Level], *, extra: ExtraFPNBlock, out_channels: int, frozen: bool = False
    ) -> None:
        super().__init__()
        self.body = body
        self.levels = tuple(levels)
        self.out_channels = out_channels
        self.frozen = frozen
        self.precision: torch.dtype | None = None
        self.fpn = FeaturePyramidNetwork([level.channels for level in levels], out_channels, extra)
        if frozen:
            for norm in host_norms(body):
                for parameter in norm.parameters(recurse=False):
                    parameter.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps; in the precision set by ``lowered`` inside, in float32 outside."""
        half = self.precision
        with nullcontext() if half is None else torch.autocast(images.device.type, dtype=half):
            maps = features(self.body, [level.name for level in self.levels], images)
            pyramid: dict[str, Tensor] = self.fpn(OrderedDict((str(i), x) for i, x in enumerate(maps)))
        if half is not None:
            pyramid = OrderedDict((name, x.float()) for name, x in pyramid.items())
        return pyramid

    def train(self, mode: bool = True) -> Pyramid:
        """Set the mode of all but the frozen norms of the host."""
        super().train(mode)
        if self.frozen:
            for norm in host_norms(self.body):
                norm.eval()
        return self

    @contextmanager
    def lowered(self, precision: torch.dtype | None) -> Iterator[None]:
        """Run the host and the pyramid under autocast to ``precision``, as long as the ``with`` block lasts."""
        self.precision = precision
        try:
            yield
        finally:
            self.precision = None
