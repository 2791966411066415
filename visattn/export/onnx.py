"""Write a model as one ONNX file, with its attention maps as outputs if asked, and check it before it is kept."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from visattn.attention._contract import MapTap
from visattn.export.packages import require_packages
from visattn.maps.capture import evaluating, map_keys
from visattn.types import UsageError

INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4


def export_onnx(
    model: nn.Module,
    path: str | Path,
    image_size: int,
    *,
    metadata: Mapping[str, str],
    with_maps: bool = False,
    check: Tensor | None = None,
) -> float:
    """Write ``model`` in eval mode to ``path``; the file replaces an older one only after the check.

    The graph has the input ``images`` ``(N, 3, image_size, image_size)`` for any ``N``, the output
    ``logits`` and, with maps, one output more a map, named by its key (``layer3.0.bn3/cbam.spatial``).
    Maps are raw gates; the metadata's ``maps`` tells their kind, range and identity strength as JSON.

    Args:
        model: takes normalised float images; it is left as it was.
        path: the ``.onnx`` file; missing folders are made.
        image_size: height and width of the images.
        metadata: texts stored in the file: class names, mean, standard deviation, ...
        with_maps: whether the attention maps are outputs too.
        check: images ``(N, 3, image_size, image_size)`` to compare on; three random ones without.

    Returns:
        The largest difference between onnxruntime and torch over all outputs, divided by the
        largest absolute value of the output where that is above 1.

    Raises:
        UsageError: packages are missing, there are no maps, the exporter does not take the model, or the
            difference is above 1e-4.

    Example:
        >>> import tempfile
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
        >>> export_onnx(model, tempfile.mkdtemp() + "/a.onnx", 8, metadata={"class_names": '["a", "b"]'}) < 1e-5
        True
    """
    path = Path(path)
    require_packages()
    if path.suffix != ".onnx":
        raise UsageError(f"an ONNX file ends in .onnx, got {path}")
    images = _images(model, image_size, check)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with evaluating(model), _recorded(model, images, with_maps=with_maps) as graph:
        texts = {"image_size": str(image_size), **metadata}
        if with_maps:
            texts["maps"] = json.dumps(graph.facts())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(graph, images, temporary, texts)
            difference = _difference(graph, temporary, images)
            if not difference <= TOLERANCE:  # not ">": NaN is refused too
                raise UsageError(
                    f"{path} was not written: onnxruntime differs from torch by {difference:.1e}, limit {TOLERANCE:.0e}"
                )
            temporary.replace(path)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return difference


class _Graph(nn.Module):
    """The exported graph: the model's logits, then each map that one forward makes."""

    def __init__(self, model: nn.Module, taps: Mapping[str, MapTap]) -> None:
        super().__init__()
        self.model = model
        self.taps = dict(taps)  # a plain dict: the taps are the model's children already
        self.names: list[str] = []
        self._found: list[tuple[str, Tensor]] = []

    def record(self, key: str, value: Tensor) -> None:
        self._found.append((key, value))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self._found.clear()
        logits = self.model(images)
        found, self._found = self._found, []
        self.names = [key for key, _ in found]
        return logits, *(value for _, value in found)

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


@contextmanager
def _recorded(model: nn.Module, images: Tensor, *, with_maps: bool) -> Iterator[_Graph]:
    """Yield the graph with hooks on the taps, which one run has shown to be in use; no hook stays."""
    graph = _Graph(model, _taps(model) if with_maps else {})

    def hook(key: str) -> Any:
        return lambda _module, _args, output: graph.record(key, output)

    handles = [tap.register_forward_hook(hook(key)) for key, tap in graph.taps.items()]
    try:
        with torch.no_grad():
            outputs = graph(images)
        if not all(isinstance(output, Tensor) for output in outputs):
            raise UsageError(f"ONNX export takes models that return one tensor, got {type(outputs[0]).__name__}")
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


def _write(graph: _Graph, images: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    example = images[:1].repeat(2, 1, 1, 1)  # a batch of 1 would be taken for a constant
    names = [OUTPUT, *graph.names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts; what matters is checked on the file
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            first = next((line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()), "")
            raise UsageError(f"torch cannot export this {type(graph.model).__name__} to ONNX: {first}") from error
    program = cast("torch.onnx.ONNXProgram", program)  # None comes from the other exporter only
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def _difference(graph: _Graph, path: Path, images: Tensor) -> float:
    """Compare all outputs on ``images`` and on the first of them alone: the batch is free."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (images, images[:1]):
        with torch.no_grad():
            expected = [output.float().cpu() for output in graph(batch)]
        found = session.run(None, {INPUT: batch.cpu().numpy()})
        for a, b in zip(expected, found, strict=True):
            scale = max(1.0, a.abs().max().item())
            gap = (a - torch.from_numpy(b).float()).abs().max().item() / scale
            worst = gap if gap != gap else max(worst, gap)
    return worst


def _images(model: nn.Module, image_size: int, check: Tensor | None) -> Tensor:
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if check is None:
        # an own generator: an export does not move the caller's
        check = torch.randn(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    if check.dim() != 4 or check.shape[0] < 1 or check.shape[1:] != (3, image_size, image_size):
        raise UsageError(f"check must be (N, 3, {image_size}, {image_size}), got {tuple(check.shape)}")
    return check.float().to(place)
