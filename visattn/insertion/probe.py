"""What a host does with an image: a dry run at two sizes that finds channel axes, stages and residual ends.

One size cannot tell height from channels. Two sizes, neither square, different in both directions,
can: the axis that does not move is the channel axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visattn.insertion.wrapper import Attended, site_name
from visattn.types import UsageError

SIZES = ((96, 128), (160, 224))
ADDITIONS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
HOPS = 2  # a projection shortcut is a norm and a projection away from its block's input, at most


@dataclass
class Seen:
    """What one module did in the runs, in the order of its calls."""

    calls: int = 0
    order: int = 0
    inputs: list[tuple[int, ...] | None] = field(default_factory=list)
    outputs: list[tuple[int, ...] | None] = field(default_factory=list)
    same: str = ""  # names the tensor that it returned in the first run


@dataclass
class Probe:
    """The record of both runs."""

    seen: dict[str, Seen]
    residual_ends: list[list[str]]  # for each residual addition, the modules that returned its branch
    height: int

    def is_map(self, name: str) -> bool:
        """Whether the module returns ``(N, C, H, W)`` with only H and W moving with the image."""
        return _is_map(self.seen[name].outputs)

    def stage(self, name: str) -> int | None:
        """Return ``i`` for an output at stride ``2^(i + 1)`` (-1 at stride 1)."""
        shape = self.seen[name].outputs[-1]
        return None if shape is None or not self.is_map(name) else round(math.log2(self.height / shape[2])) - 1


def probe(host: nn.Module, example: Tensor | None = None) -> Probe:
    """Run ``host`` at two sizes in eval mode and leave it, its buffers and all generators as they were.

    Args:
        host: the model.
        example: an input ``(N, C, H, W)``; its channels, dtype and device are taken, its size too
            if it is not square. By default an image of the host's own channels, 96x128 and 160x224.

    Raises:
        UsageError: the host fails on such images.
    """
    images = _images(host, example)
    runs = []
    with _undisturbed(host), torch.no_grad():
        for image in images:
            trace = _Trace(host)
            try:
                with trace.hooks(), trace:
                    host(image)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UsageError(
                    f"{type(host).__name__} fails on a trial image {tuple(image.shape)}: {reason}; "
                    "pass example= with an input that it takes"
                ) from error
            runs.append(trace)
    first, second = runs
    for name, seen in first.seen.items():
        other = second.seen.get(name, Seen())
        seen.inputs += other.inputs
        seen.outputs += other.outputs
        seen.calls = max(seen.calls, other.calls)
    ends = [
        names
        for (shape, names), (other_shape, _) in zip(first.additions, second.additions, strict=False)
        if names and _is_map([shape, other_shape])
    ]
    return Probe(first.seen, ends, images[1].shape[2])


def _is_map(shapes: list[tuple[int, ...] | None]) -> bool:
    if len(shapes) < 2 or shapes[0] is None or shapes[-1] is None:
        return False
    a, b = shapes[0], shapes[-1]
    return len(a) == len(b) == 4 and a[1] == b[1] and a[2] != b[2] and a[3] != b[3]


def _images(host: nn.Module, example: Tensor | None) -> tuple[Tensor, Tensor]:
    if example is not None:
        if not isinstance(example, Tensor) or example.dim() != 4:
            raise UsageError(f"example must be a tensor (N, C, H, W), got {getattr(example, 'shape', type(example))}")
        h, w = int(example.shape[2]), int(example.shape[3])
        w = w + 32 if w == h else w
        sizes = ((h, w), (h + 64, w + 96 if w + 96 != h + 64 else w + 128))
        return tuple(example.new_zeros(1, example.shape[1], *size).normal_() for size in sizes)  # type: ignore[return-value]
    parameter = next((p for p in host.parameters() if p.is_floating_point()), torch.zeros(1))
    conv = next((m for m in host.modules() if isinstance(m, nn.Conv2d)), None)
    channels = conv.in_channels if conv is not None else 3
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, channels, *size, generator=generator).to(parameter) for size in SIZES)
    return first, second


@contextmanager
def _undisturbed(host: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in host.modules()}
    buffers = {name: buffer.clone() for name, buffer in host.named_buffers()}
    devices = sorted({p.device.index or 0 for p in host.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        host.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for name, buffer in host.named_buffers():
                    buffer.copy_(buffers[name])


class _Trace(TorchFunctionMode):
    """Follows tensors through modules and additions in one run."""

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.host = host
        self.seen: dict[str, Seen] = {}
        self.additions: list[tuple[tuple[int, ...], list[str]]] = []
        self._stack: list[tuple[str, Tensor | None]] = []
        self._depth: dict[int, int] = {}
        self._makers: dict[int, list[str]] = {}  # tensor -> the modules that returned it
        self._taken: dict[str, Tensor] = {}  # module -> the tensor that it took
        self._alive: list[Tensor] = []  # an id is a name only while its tensor lives

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch every module of the host; blocks inside wrappers are not the host's."""
        handles = []
        inside = {id(m) for w in self.host.modules() if isinstance(w, Attended) for m in w.attention.modules()}
        inside |= {id(w.base) for w in self.host.modules() if isinstance(w, Attended)}
        for path, module in self.host.named_modules():
            if path and id(module) not in inside:
                name = site_name(path)
                handles.append(module.register_forward_pre_hook(self._entering(name)))
                handles.append(module.register_forward_hook(self._leaving(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0] if args and isinstance(args[0], Tensor) else None
            self._stack.append((name, x))
            if x is not None:
                self._alive.append(x)
                self._taken[name] = x

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], y: Any) -> None:
            x = self._stack.pop()[1]
            seen = self.seen.setdefault(name, Seen(order=len(self.seen)))
            seen.calls += 1
            seen.inputs.append(None if x is None else tuple(x.shape))
            seen.outputs.append(tuple(y.shape) if isinstance(y, Tensor) else None)
            if isinstance(y, Tensor):
                self._alive.append(y)
                self._makers.setdefault(id(y), []).append(name)
                seen.same = str(id(y))

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ADDITIONS:
            self._addition(args)
        y = func(*args, **(kwargs or {}))
        before = [self._depth.get(id(x), 0) for x in _tensors(args)]
        for tensor in _tensors([y]):
            self._depth[id(tensor)] = 1 + max(before, default=0)
            self._alive.append(tensor)
        return y

    def _addition(self, args: Any) -> None:
        if len(args) < 2 or not all(isinstance(x, Tensor) and x.dim() == 4 for x in args[:2]):
            return
        short, branch = sorted(args[:2], key=lambda x: self._depth.get(id(x), 0))
        if short is branch or short.shape != branch.shape or not self._stack:
            return
        name, block_input = self._stack[-1]
        if block_input is not None and self._leads_to(short, block_input, HOPS):
            makers = [m for m in self._makers.get(id(branch), []) if m.startswith(f"{name}.")]
            self.additions.append((tuple(branch.shape), makers))

    def _leads_to(self, tensor: Tensor, source: Tensor, hops: int) -> bool:
        if tensor is source:
            return True
        makers = self._makers.get(id(tensor), [])
        return hops > 0 and any(
            self._leads_to(self._taken[maker], source, hops - 1) for maker in makers if maker in self._taken
        )


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors among ``values`` and in the lists among them (``cat`` takes one, ``split`` returns one)."""
    inner = [x for v in values if isinstance(v, list | tuple) for x in v if isinstance(x, Tensor)]
    return [v for v in values if isinstance(v, Tensor)] + inner
