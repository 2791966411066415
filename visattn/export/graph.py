"""What is exported: a model's logits and, if asked, each map that one forward makes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from visattn.attention._contract import MapTap
from visattn.maps.capture import evaluating, map_keys
from visattn.types import UsageError

INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]


class Graph(nn.Module):
    """The exported graph: a model's logits, then each map that one forward makes."""

    def __init__(self, model: nn.Module, taps: Mapping[str, MapTap]) -> None:
        super().__init__()
        self.model = model
        self.taps = dict(taps)  # a plain dict: the taps are the model's children already
        self.names: list[str] = []
        self._found: list[tuple[str, Tensor]] = []

    def record(self, key: str, value: Tensor) -> None:
        """Take the map ``key`` of the running forward."""
        self._found.append((key, value))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits and the maps, in the order of ``names``."""
        self._found.clear()
        logits = self.model(images)
        found, self._found = self._found, []
        self.names = [key for key, _ in found]
        return logits, *(value for _, value in found)

    def gap(self, images: Tensor, found: Callable[[Tensor], Sequence[Tensor]]) -> float:
        """Return the largest difference between ``found`` and the model over all outputs, relative to those above 1.

        Compares on ``images`` and on the first of them alone: the batch is free. NaN is never small.
        """
        worst = 0.0
        for batch in (images, images[:1]):
            with torch.no_grad():
                expected = self(batch)
            for a, b in zip(expected, found(batch), strict=True):
                wanted = a.float().cpu()
                gap = ((wanted - b.float().cpu()).abs().max() / wanted.abs().max().clamp(min=1.0)).item()
                worst = gap if gap != gap else max(worst, gap)
        return worst

    def facts(self) -> dict[str, dict[str, object]]:
        """Return what a reader needs to draw each map."""
        infos = map_keys(self.model)
        return {
            key: {name: getattr(infos[key], name) for name in ("kind", "lower", "upper", "softmax", "strength")}
            for key in self.names
        }


def _taps(model: nn.Module) -> dict[str, MapTap]:
    taps = [module for module in model.modules() if isinstance(module, MapTap)]
    return dict(zip(map_keys(model), taps, strict=True))  # both in the model's order


def write_checked(
    model: nn.Module,
    path: Path,
    images: Tensor,
    *,
    metadata: Mapping[str, str],
    with_maps: bool,
    write: Callable[[Graph, Tensor, Path, Mapping[str, str]], None],
    read: Callable[[Path], Run],
    reader: str,
) -> float:
    """Write ``model`` to ``path`` and return how far what is read back differs; nothing is kept that differs."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with evaluating(model), _recorded(model, images, with_maps=with_maps) as graph:
        texts = {"image_size": str(images.shape[-1]), **metadata}
        if with_maps:
            texts["maps"] = json.dumps(graph.facts())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(graph, images[:1].repeat(2, 1, 1, 1), temporary, texts)  # one image would be taken for a constant
            difference = graph.gap(images, read(temporary))
            if not difference <= TOLERANCE:  # not ">": NaN is refused too
                raise UsageError(
                    f"{path} was not written: {reader} differs from torch by {difference:.1e}, limit {TOLERANCE:.0e}"
                )
            temporary.replace(path)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return difference


@contextmanager
def _recorded(model: nn.Module, images: Tensor, *, with_maps: bool) -> Iterator[Graph]:
    """Yield the graph with hooks on the taps, which one run has shown to be in use; no hook stays."""
    graph = Graph(model, _taps(model) if with_maps else {})

    def hook(key: str) -> Any:
        return lambda _module, _args, output: graph.record(key, output)

    handles = [tap.register_forward_hook(hook(key)) for key, tap in graph.taps.items()]
    try:
        with torch.no_grad():
            outputs = graph(images)
        if not all(isinstance(output, Tensor) for output in outputs):
            raise UsageError(f"export takes models that return one tensor, got {type(outputs[0]).__name__}")
        if with_maps and not graph.names:
            raise UsageError("with_maps needs a model with attention maps, and this one has none")
        if len(set(graph.names)) < len(graph.names):
            twice = next(key for key in graph.names if graph.names.count(key) > 1)
            raise UsageError(
                f"with_maps needs each map once a forward; '{twice}' is made {graph.names.count(twice)} times"
            )
        yield graph
    finally:
        for handle in handles:
            handle.remove()


def example_images(model: nn.Module, image_size: int, check: Tensor | None) -> Tensor:
    """Return ``check``, or three random images, on the device of ``model``."""
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if check is None:
        # an own generator: an export does not move the caller's
        check = torch.randn(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    if check.dim() != 4 or check.shape[0] < 1 or check.shape[1:] != (3, image_size, image_size):
        raise UsageError(f"check must be (N, 3, {image_size}, {image_size}), got {tuple(check.shape)}")
    return check.float().to(place)
