"""Write a detector as one ONNX file for one picture of any size, and check it before it is kept."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from visattn.export.packages import require_packages
from visattn.heads.detector import AbstractDetector
from visattn.maps.capture import evaluating
from visattn.types import UsageError

INPUT, OUTPUTS = "image", ("boxes", "labels", "scores")
OPSET = 17
TOLERANCE = 1e-3  # of a picture's longer side, for boxes; absolute, for scores

Found = tuple[Tensor, Tensor, Tensor]


def export_detector(
    detector: AbstractDetector, path: str | Path, *, check: Sequence[Tensor], metadata: Mapping[str, str]
) -> float:
    """Write ``detector`` in eval mode to ``path``; the file replaces an older one only after the check.

    The graph takes ``image``, one float picture ``(3, H, W)`` in 0 to 1 of any size, and returns ``boxes``
    ``(n, 4)`` in its pixels, ``labels`` ``(n,)`` from 0 and ``scores`` ``(n,)``; resizing, normalising and
    suppression are inside. It is written by torch's older exporter: ``torch.export`` stops at the
    data-dependent shapes of all four detectors.

    Args:
        detector: from ``create_detector``; it is left as it was.
        path: the ``.onnx`` file; missing folders are made.
        check: pictures to compare on, best real ones; the first is traced.
        metadata: texts stored in the file: class names, ...

    Returns:
        The largest difference between onnxruntime and torch: of boxes as a share of the picture's longer
        side, of scores as they are. Detections of nearly equal scores may come in another order.

    Raises:
        UsageError: packages are missing, there is no picture to compare on, or the difference is above 1e-3.
    """
    path = Path(path)
    require_packages()
    if path.suffix != ".onnx":
        raise UsageError(f"an ONNX file ends in .onnx, got {path}")
    if not check:
        raise UsageError("check has 0 pictures; valid: at least one, to compare onnxruntime with torch on")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    graph = _Graph(detector)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with evaluating(graph), torch.no_grad():
            _write(graph, check[0], temporary, metadata)
            worst = max(_difference(graph, temporary, picture) for picture in check)
        if not worst <= TOLERANCE:  # not ">": NaN is refused too
            raise UsageError(
                f"{path} was not written: onnxruntime differs from torch by {worst:.1e}, limit {TOLERANCE:.0e}"
            )
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return worst


class _Graph(nn.Module):
    """The exported graph: one picture in, three tensors out."""

    def __init__(self, detector: AbstractDetector) -> None:
        super().__init__()
        self.detector = detector
        self.train(detector.training)

    def forward(self, image: Tensor) -> Found:
        (found,) = self.detector([image])
        return found["boxes"], found["labels"], found["scores"]


def _write(graph: _Graph, picture: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, at each Python number; what matters is checked on the file
        torch.onnx.export(
            graph,
            (picture,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {1: "height", 2: "width"}, **{name: {0: "detections"} for name in OUTPUTS}},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def _difference(graph: _Graph, path: Path, picture: Tensor) -> float:
    """Compare the detections in one picture, each with the nearest of its label."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, labels, scores = (found.cpu() for found in graph(picture))
    arrays = session.run(list(OUTPUTS), {INPUT: picture.cpu().numpy()})
    other_boxes, other_labels, other_scores = (torch.from_numpy(array) for array in arrays)
    if len(boxes) != len(other_boxes):
        return float("inf")
    if not len(boxes):
        return 0.0
    gaps = (boxes[:, None] - other_boxes[None]).abs().amax(-1) / max(picture.shape)
    gaps = torch.maximum(gaps, (scores[:, None] - other_scores[None]).abs())
    gaps[labels[:, None] != other_labels[None]] = torch.inf
    return float(torch.maximum(gaps.amin(0).max(), gaps.amin(1).max()))
