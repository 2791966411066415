"""A detector with attention as ONNX: the same boxes, labels and scores in pictures of other sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import visattn
from visattn.export import export_detector
from visattn.heads.detector import AbstractDetector
from visattn.types import UsageError


def pictures() -> list[Tensor]:
    """Return scikit-learn's two photographs, small, and one of them cropped to another shape."""
    whole = [torch.tensor(picture).permute(2, 0, 1).float() / 255 for picture in load_sample_images().images]
    one, other = (picture[:, ::3, ::3].contiguous() for picture in whole)
    return [one, other, other[:, :70, :160].contiguous()]


def spread(arch: str) -> AbstractDetector:
    """Return a detector whose heads are laid so that scores differ, as after a training: they start all alike."""
    torch.manual_seed(0)
    attention = {"fpn": "coordatt", "residual": {"block": "cbam", "init": "paper"}}
    detector = visattn.create_detector(
        arch, "test_resnet", attention=attention, num_classes=3, image_size=96, channels=64, score_threshold=0.6
    )
    for name, module in detector.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith("backbone."):
            nn.init.normal_(
                module.weight,
                std=(1 if "bbox" in name or "_head.conv." in name else 4) / module.weight[0].numel() ** 0.5,
            )
            nn.init.zeros_(module.bias)
    return detector


def check(arch: str, path: Path) -> None:
    detector = spread(arch)
    difference = export_detector(detector, path, check=pictures(), metadata={"class_names": json.dumps(["a", "b"])})
    assert difference < 1e-4
    assert detector.training, "left as it was"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"class_names": '["a", "b"]'}
    assert [found.name for found in session.get_outputs()] == ["boxes", "labels", "scores"]
    detector.eval()
    for picture in pictures():
        boxes, labels, scores = session.run(None, {"image": picture.numpy()})
        with torch.no_grad():
            (expected,) = detector([picture])
        assert len(boxes) == len(expected["boxes"]) > 0
        order, theirs = np.argsort(-scores, kind="stable"), expected["scores"].argsort(descending=True, stable=True)
        np.testing.assert_allclose(scores[order], expected["scores"][theirs].numpy(), atol=1e-5)
        assert sorted(labels) == sorted(expected["labels"].tolist())
        # the best detection has no rival with a score as good
        np.testing.assert_allclose(boxes[order[0]], expected["boxes"][theirs[0]].numpy(), atol=1e-2)


def test_fcos_is_the_same_in_onnxruntime(tmp_path: Path) -> None:
    check("fcos", tmp_path / "fcos.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["fasterrcnn", "retinanet", "ssd"])
def test_the_others_are_too(arch: str, tmp_path: Path) -> None:
    check(arch, tmp_path / f"{arch}.onnx")


def test_refusals_leave_no_file(tmp_path: Path) -> None:
    detector = spread("ssd")
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export_detector(detector, tmp_path / "a.pt", check=pictures(), metadata={})
    with pytest.raises(UsageError, match="check has 0 pictures"):
        export_detector(detector, tmp_path / "a.onnx", check=[], metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visattn.export.detector.TOLERANCE", -1.0)
    with pytest.raises(UsageError, match="was not written: onnxruntime differs"):
        export_detector(spread("ssd"), tmp_path / "a.onnx", check=pictures()[:1], metadata={})
    assert list(tmp_path.iterdir()) == []
