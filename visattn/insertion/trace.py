"""One run of a host, watched: what each module takes and returns, and where a residual branch is added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visattn.insertion.wrapper import Attended, site_name

ADDITIONS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
# layer scales, residual scales and dropout: what is scaled still ends where the scaled module ends
SCALINGS = {"mul", "mul_", "__mul__", "__imul__", "__rmul__", "div", "__truediv__", "dropout", "contiguous"}
MATRIX_PRODUCTS = {"matmul", "__matmul__", "bmm", "einsum"}
PRODUCTS = MATRIX_PRODUCTS | {"mul", "mul_", "__mul__", "__imul__"}
# parts of the names of functions that no convolution can absorb
BENDS = ("relu", "elu", "silu", "swish", "mish", "sigmoid", "tanh", "softmax", "attention", "layer_norm", "group_norm")
HOPS = 2  # a projection shortcut is a norm and a projection away from its block's input, at most


@dataclass
class Seen:
    """What one module did in the runs, in the order of its calls."""

    calls: int = 0
    order: int = 0
    inputs: list[tuple[int, ...] | None] = field(default_factory=list)
    outputs: list[tuple[int, ...] | None] = field(default_factory=list)
    same: str = ""  # names the tensor that it returned in the first run
    passes: bool = True  # it returned its very input, as drop path does in eval mode
    pairs: bool = False  # it returned weights between positions, which may have the shape of a map
    dtype: torch.dtype = torch.float32  # of its output
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass
class _Call:
    """A module that is running."""

    name: str
    input: Tensor | None
    sums: list[Tensor] = field(default_factory=list)  # its residual additions so far


class Trace(TorchFunctionMode):
    """Follows tensors through modules and additions in one run.

    Args:
        host: the model, or the part of it that is run.
        prefix: the dotted name of that part, with a dot at its end.
    """

    def __init__(self, host: nn.Module, prefix: str = "") -> None:
        super().__init__()
        self.host = host
        self.prefix = prefix
        self.seen: dict[str, Seen] = {}
        self.additions: list[tuple[tuple[int, ...], list[str]]] = []
        self._stack: list[_Call] = []
        self._depth: dict[int, int] = {}  # of what the image became; weights and what comes of them have none
        self._bends: dict[int, int] = {}  # tensor -> the nonlinear functions on its way
        self._makers: dict[int, list[str]] = {}  # tensor -> the modules that returned it
        self._pairs: set[int] = set()  # tensors that are weights between positions
        self._scaled: dict[int, Tensor] = {}  # tensor -> what it is a multiple of
        self._taken: dict[str, Tensor] = {}  # module -> the tensor that it took
        self._alive: list[Tensor] = []  # an id is a name only while its tensor lives

    def run(self, image: Tensor) -> None:
        """Run the host on ``image``, watched."""
        self._depth[id(image)] = 0
        with self.hooks(), self:
            self.host(image)

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch every module of the host; blocks inside wrappers are not the host's."""
        handles = []
        wrappers = [w for w in self.host.modules() if isinstance(w, Attended)]
        inside = {id(m) for w in wrappers for m in w.attention.modules()} | {id(w.base) for w in wrappers}
        for path, module in self.host.named_modules():
            if (path or self.prefix) and id(module) not in inside:
                name = site_name(f"{self.prefix}{path}".rstrip("."))
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
            self._stack.append(_Call(name, x))
            if x is not None:
                self._alive.append(x)
                self._taken[name] = x

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], y: Any) -> None:
            x = self._stack.pop().input
            seen = self.seen.setdefault(name, Seen(order=len(self.seen)))
            seen.calls += 1
            seen.inputs.append(None if x is None else tuple(x.shape))
            seen.outputs.append(tuple(y.shape) if isinstance(y, Tensor) else None)
            seen.passes &= y is x
            if isinstance(y, Tensor):
                self._alive.append(y)
                self._makers.setdefault(id(y), []).append(name)
                seen.same, seen.dtype, seen.device = str(id(y)), y.dtype, y.device
                seen.pairs |= id(y) in self._pairs

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        taken = _tensors([*args, *(kwargs or {}).values()])
        added = self._addition(args) if name in ADDITIONS else False
        depths = [self._depth[id(x)] for x in taken if id(x) in self._depth]
        bends = max((self._bends.get(id(x), 0) for x in taken), default=0) + self._bent(name, taken)
        y = func(*args, **(kwargs or {}))
        for tensor in _tensors([y]):
            if depths:
                self._depth[id(tensor)], self._bends[id(tensor)] = 1 + max(depths), bends
            self._alive.append(tensor)
            square = tensor.dim() == len("NCHW") and tensor.shape[2] == tensor.shape[3]
            goes_on = any(id(x) in self._pairs and x.shape == tensor.shape for x in taken)
            if square and (name in MATRIX_PRODUCTS or goes_on):
                self._pairs.add(id(tensor))
        if name in SCALINGS and isinstance(y, Tensor):
            self._scale(y, taken)
        elif name in ADDITIONS or self._bent(name, taken):
            self._makers.pop(id(y), None)  # changed in place, it is no longer what its makers returned
        if added:
            self._stack[-1].sums.append(y)
        return y

    def _bent(self, name: str, taken: list[Tensor]) -> bool:
        """Whether a function is one that no convolution can absorb: an activation, or a product of two maps."""
        product = name in PRODUCTS and sum(id(x) in self._depth for x in taken) > 1
        return product or any(part in name for part in BENDS)

    def _scale(self, y: Tensor, taken: list[Tensor]) -> None:
        moving = [x for x in taken if x.shape == y.shape and (x is y or id(x) in self._depth)]
        others = [x for x in taken if x.shape != y.shape and id(x) in self._depth]
        if len(moving) == 1 and not others and moving[0] is not y:
            self._scaled[id(y)] = moving[0]

    def _addition(self, args: Any) -> bool:
        """Note the addition of two maps if it ends a residual branch of the module that runs."""
        if len(args) < 2 or not all(isinstance(x, Tensor) and x.dim() == 4 for x in args[:2]):
            return False
        short, branch = sorted(args[:2], key=lambda x: self._depth.get(id(x), 0))
        if short is branch or short.shape != branch.shape or not self._stack:
            return False
        call = self._stack[-1]
        starts = [*call.sums, *([] if call.input is None else [call.input])]
        if not any(self._leads_to(short, start, HOPS) for start in starts):
            return False
        if self._bends.get(id(branch), 0) <= self._bends.get(id(short), 0):
            return False  # a linear branch is part of a convolution (RepVGG) or a position encoding
        while not self._own_makers(branch, call) and id(branch) in self._scaled:
            branch = self._scaled[id(branch)]
        self.additions.append((tuple(branch.shape), self._own_makers(branch, call)))
        return True

    def _own_makers(self, tensor: Tensor, call: _Call) -> list[str]:
        return [maker for maker in self._makers.get(id(tensor), []) if maker.startswith(f"{call.name}.")]

    def _leads_to(self, tensor: Tensor, source: Tensor, hops: int) -> bool:
        if tensor is source:
            return True
        if id(tensor) in self._scaled:
            return self._leads_to(self._scaled[id(tensor)], source, hops)
        makers = self._makers.get(id(tensor), [])
        return hops > 0 and any(
            self._leads_to(self._taken[maker], source, hops - 1) for maker in makers if maker in self._taken
        )


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors among ``values`` and in the lists among them (``cat`` takes one, ``split`` returns one)."""
    inner = [x for v in values if isinstance(v, list | tuple) for x in v if isinstance(x, Tensor)]
    return [v for v in values if isinstance(v, Tensor)] + inner
