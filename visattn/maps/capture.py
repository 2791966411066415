"""Recording the maps of a model: hooks on its taps for as long as a ``with`` block lasts."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractAttention, MapTap
from visattn.insertion.wrapper import ATTENTION, BASE, Attended
from visattn.types import MapKind, UsageError, unknown

# Parts of a module's path that wrappers add; the names shown are the host's own.
WRAPPERS = frozenset({BASE, "_orig_mod", "_fsdp_wrapped_module"})

# The top of the scale on which softmax maps are drawn, in multiples of the uniform weight.
SOFTMAX_SCALE = 4.0


class MapInfo(NamedTuple):
    """What a map is and where it comes from."""

    site: str  # the place in the host, "" for the model itself
    block: str  # the block's name at this site
    tap: str  # the map's name in the block
    kind: MapKind
    lower: float | None  # the smallest value of the raw map, None without a limit
    upper: float | None  # the largest
    softmax: bool  # the raw values sum to 1 over positions
    strength: float | None  # the site's identity strength ``a`` at the last recording, None without one

    @property
    def scale(self) -> tuple[float, float] | None:
        """The range on which the effective map is drawn, the same for every picture and epoch; None without limits."""
        if self.softmax:
            return 0.0, SOFTMAX_SCALE
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)


class _UnknownMapError(UsageError, KeyError):
    """A key that names no map: a ``KeyError`` too, as a mapping owes its readers."""

    __str__ = Exception.__str__  # a KeyError would show its message in quotes


class _Source(NamedTuple):
    info: MapInfo
    tap: MapTap
    holder: nn.Module  # the block that owns the strength


class Maps(Mapping[str, Tensor]):
    """The maps of one recording, by key: copies on the CPU in fp32, pictures along the first axis.

    A key is ``<site>/<block>.<tap>``, for blocks that stand in no site the tap's path in the model.
    """

    def __init__(self, sources: dict[str, _Source], limit: int) -> None:
        self._sources = sources
        self._limit = limit
        self._chunks: dict[str, list[tuple[Tensor, float | None]]] = {}

    def __getitem__(self, key: str) -> Tensor:
        return _join(key, [values for values, _ in self._recorded(key)])

    def __iter__(self) -> Iterator[str]:
        self._require_any()
        return iter([key for key in self._sources if key in self._chunks])

    def __len__(self) -> int:
        return len(self._chunks)

    def info(self, key: str) -> MapInfo:
        """Return what the map ``key`` is.

        Raises:
            UsageError: no map of this name was recorded.
        """
        _, strength = self._recorded(key)[-1]
        return self._sources[key].info._replace(strength=strength)

    def effective(self, key: str) -> Tensor:
        """Return the factor that the map ``key`` stands for: ``1 + a * (g - 1)``, in the shape of the map.

        A softmax map is taken times its number of positions first, so that 1 is the uniform weight.

        Raises:
            UsageError: no map of this name was recorded.
        """
        chunks, info = self._recorded(key), self._sources[key].info
        factors = []
        for values, strength in chunks:
            gate = values * _positions(values, info.kind) if info.softmax else values
            factors.append(gate if strength is None else 1 + strength * (gate - 1))
        return _join(key, factors)

    def plane(self, key: str, *, aspect: float = 1.0) -> Tensor:
        """Return the effective map ``key`` over positions, ``(N, h, w)``, ready to be drawn or scored.

        Channels and heads are averaged. A pairwise map gives what each position receives from all
        others; its positions are laid out as the grid nearest to ``aspect`` (height over width).

        Raises:
            UsageError: ``key`` was not recorded, or is a channel map, which has no positions.
        """
        values, kind = self.effective(key), self._sources[key].info.kind
        if kind == "channel":
            raise UsageError(f"map '{key}' is a channel map and has no positions; draw it as a strip")
        if kind != "pairwise":
            return values.mean(1)
        received = values.flatten(1, -2).mean(1)  # (N, HW), over heads and queries
        return received.reshape(-1, *_grid(received.shape[1], aspect))

    def record(self, key: str, values: Tensor) -> None:
        """Keep a copy of ``values`` under ``key``, as far as the limit on pictures allows."""
        chunks = self._chunks.setdefault(key, [])
        room = self._limit - sum(len(chunk) for chunk, _ in chunks)
        if room <= 0:
            return
        copy = values.detach()[:room].to("cpu", torch.float32, copy=True)  # what follows may change it in place
        chunks.append((copy, _strength(self._sources[key].holder)))

    def _recorded(self, key: str) -> list[tuple[Tensor, float | None]]:
        self._require_any()
        if key in self._chunks:
            return self._chunks[key]
        if key in self._sources:
            raise _UnknownMapError(f"map '{key}' was not recorded: its block did not run; recorded: {', '.join(self)}")
        raise _UnknownMapError(str(unknown("map", key, self)))

    def _require_any(self) -> None:
        if not self._chunks:
            raise UsageError("no map was recorded: call the model inside `with capture(model) as maps:`")


@contextmanager
def capture(model: nn.Module, *, limit: int = 64) -> Iterator[Maps]:
    """Record the maps of ``model`` while the ``with`` block runs.

    Calls of the model add up along the batch axis. Compiled models run eagerly meanwhile, since a
    compiled graph never calls a hook that came after it. No hook is left behind, and the model's
    mode, parameters and random numbers are not touched.

    Args:
        model: a host with blocks, or a block itself.
        limit: how many pictures are kept of each map, the first ones; more are dropped. Pairwise
            maps need ``4 (HW)^2`` bytes a picture, all others at most as much as features.

    Yields:
        The maps, to be read inside the ``with`` block or after it.

    Raises:
        UsageError: the model has no maps, or ``limit`` is not positive; when nothing was recorded,
            reading the maps raises it.

    Example:
        >>> from visattn.attention.cbam import CBAM
        >>> block = CBAM(8)
        >>> with capture(block) as maps:
        ...     _ = block(torch.zeros(2, 8, 5, 5))
        >>> {key: tuple(value.shape) for key, value in maps.items()}
        {'channel': (2, 8, 1, 1), 'spatial': (2, 1, 5, 5)}
    """
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    sources = _sources(model)
    if not sources:
        raise UsageError(f"{type(model).__name__} has no attention map to capture; insert a block with visattn.attend")
    maps = Maps(sources, limit)
    hooks = []
    try:
        for key, source in sources.items():
            hooks.append(source.tap.register_forward_hook(_recorder(maps, key)))
        with uncompiled():
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recording(model: nn.Module, limit: int) -> Iterator[Maps | None]:
    """Record the maps of ``model`` as ``capture`` does; None for a model without maps.

    Example:
        >>> with recording(nn.ReLU(), 1) as maps:
        ...     maps is None
        True
    """
    if not _sources(model):
        yield None
        return
    with capture(model, limit=limit) as maps:
        yield maps


def map_keys(model: nn.Module) -> dict[str, MapInfo]:
    """Return what maps ``model`` has, by key, without running it.

    Example:
        >>> from visattn.attention.se import SE
        >>> [(key, info.kind) for key, info in map_keys(nn.Sequential(nn.ReLU(), SE(8))).items()]
        [('1.channel', 'channel')]
    """
    return {key: source.info for key, source in _sources(model).items()}


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which compiled models run eagerly, so that hooks added since are called."""
    # loading dynamo takes over a second; where nothing loaded it, nothing is compiled
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode, and each of its modules back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def _recorder(maps: Maps, key: str) -> Any:
    def record(module: nn.Module, args: Any, output: Tensor) -> None:
        del module, args
        maps.record(key, output)

    return record


def _sources(model: nn.Module) -> dict[str, _Source]:
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    modules = dict(model.named_modules())
    return dict(_source(path, modules) for path, module in modules.items() if isinstance(module, MapTap))


def _source(path: str, modules: dict[str, nn.Module]) -> tuple[str, _Source]:
    tap = modules[path]
    assert isinstance(tap, MapTap)
    parts = path.split(".")
    for i in reversed(range(len(parts) - 2)):
        wrapper = modules.get(".".join(parts[:i]))
        if isinstance(wrapper, Attended) and parts[i] == ATTENTION:
            site, name, rest = _shown(parts[:i]), parts[i + 1], ".".join(parts[i + 2 :])
            block = wrapper.attention[name]
            key = f"{site}/{name}.{rest}" if site else f"{name}.{rest}"
            break
    else:
        owners = [i for i in range(len(parts)) if isinstance(modules[".".join(parts[:i])], AbstractAttention)]
        i = owners[0] if owners else len(parts) - 1
        block = modules[".".join(parts[:i])]
        site, rest, key = _shown(parts[:i]), _shown(parts[i:]), _shown(parts) or tap.kind
        name = type(block).__module__.rpartition(".")[2] if owners else type(block).__name__.lower()
    info = MapInfo(site, name, rest, tap.kind, tap.lower, tap.upper, tap.softmax, _strength(block))
    return key, _Source(info, tap, block)


def _strength(block: nn.Module) -> float | None:
    strength = getattr(block, "strength", None)
    return None if strength is None else float(strength.detach())


def _shown(parts: list[str]) -> str:
    return ".".join(part for part in parts if part not in WRAPPERS)


def _positions(values: Tensor, kind: MapKind) -> int:
    return values.shape[-1] if kind == "pairwise" else values.shape[-2] * values.shape[-1]


def _grid(count: int, aspect: float) -> tuple[int, int]:
    heights = [h for h in range(1, count + 1) if count % h == 0]
    height = min(heights, key=lambda h: abs(math.log(h * h / count / aspect)))
    return height, count // height


def _join(key: str, chunks: list[Tensor]) -> Tensor:
    sizes = sorted({tuple(chunk.shape[1:]) for chunk in chunks})
    if len(sizes) > 1:
        raise UsageError(f"map '{key}' was recorded in several sizes, {sizes}; capture pictures of one size at a time")
    return torch.cat(chunks)
