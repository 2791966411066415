"""Write a model as a torch.export archive, with its attention maps as outputs if asked, and check it first."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from visattn.export.graph import OUTPUT, Graph, Run, example_images, write_checked
from visattn.types import UsageError

FACTS = "visattn.json"  # the name inside the archive


def export_program(
    model: nn.Module,
    path: str | Path,
    image_size: int,
    *,
    metadata: Mapping[str, str],
    with_maps: bool = False,
    check: Tensor | None = None,
) -> float:
    """Write ``model`` in eval mode to ``path``; the file replaces an older one only after the check.

    ``torch.export.load(path).module()`` takes images ``(N, 3, image_size, image_size)`` for any ``N`` and
    returns a tuple: the logits and, with maps, each map. ``read_facts`` tells the outputs' names and the rest.

    Args:
        model: takes normalised float images; it is left as it was.
        path: the ``.pt2`` file; missing folders are made.
        image_size: height and width of the images.
        metadata: texts stored in the file: class names, mean, standard deviation, ...
        with_maps: whether the attention maps are outputs too.
        check: images ``(N, 3, image_size, image_size)`` to compare on; three random ones without.

    Returns:
        The largest difference between the file and the model over all outputs, divided by the
        largest absolute value of the output where that is above 1.

    Raises:
        UsageError: there are no maps, torch cannot export the model, or the difference is above 1e-4.

    Example:
        >>> import tempfile
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
        >>> path = tempfile.mkdtemp() + "/a.pt2"
        >>> export_program(model, path, 8, metadata={"class_names": '["a", "b"]'})
        0.0
        >>> read_facts(path)["outputs"]
        '["logits"]'
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise UsageError(f"a torch.export archive ends in .pt2, got {path}")
    images = example_images(model, image_size, check)
    return write_checked(
        model, path, images, metadata=metadata, with_maps=with_maps, write=_write, read=_module, reader="the archive"
    )


def read_facts(path: str | Path) -> dict[str, str]:
    """Return the texts of an archive: ``outputs`` (names, as JSON), ``image_size``, ``maps`` and the metadata."""
    facts = {FACTS: ""}
    torch.export.load(Path(path), extra_files=facts)
    return cast("dict[str, str]", json.loads(facts[FACTS]))


def _write(graph: Graph, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    texts = {"outputs": json.dumps([OUTPUT, *graph.names]), **metadata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts; what matters is checked on the file
        try:
            program = torch.export.export(
                graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
            )
        except Exception as error:  # what a model's code makes torch raise has no common kind
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UsageError(f"torch cannot export this {type(graph.model).__name__}: {first}") from error
        torch.export.save(program, path, extra_files={FACTS: json.dumps(texts)})


def _module(path: Path) -> Run:
    return cast("Run", torch.export.load(path).module())
