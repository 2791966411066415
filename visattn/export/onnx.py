"""Write a model as one ONNX file, with its attention maps as outputs if asked, and check it before it is kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from visattn.export.graph import INPUT, OUTPUT, Graph, Run, example_images, write_checked
from visattn.export.packages import require_packages
from visattn.types import UsageError


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
    images = example_images(model, image_size, check)
    return write_checked(
        model,
        path,
        images,
        metadata=metadata,
        with_maps=with_maps,
        write=_write,
        read=_session,
        reader="onnxruntime",
    )


def _write(graph: Graph, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
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


def _session(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(y) for y in session.run(None, {INPUT: images.cpu().numpy()})]
