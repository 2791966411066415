"""``visattn export`` on a run that really trained: names, texts and numbers of the file are those of the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visattn.cli.main import main
from visattn.maps.capture import capture
from visattn.tasks.restore import restore

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs/experiment/clutter_classification.yaml"
SMALL = ["--data.train=64", "--data.val=32", "--data.test=32", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(CONFIG), *SMALL, "--model.attention=cbam", f"--out={folder}"])
    assert end.value.code == 0
    return folder


def read(path: Path) -> tuple[list[str], dict[str, str], Any]:
    """Return output names, texts and a function from images to outputs."""
    if path.suffix == ".pt2":
        from visattn.export.program import read_facts

        facts = read_facts(path)
        return json.loads(facts.pop("outputs")), facts, torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    texts = session.get_modelmeta().custom_metadata_map
    return (
        [output.name for output in session.get_outputs()],
        texts,
        lambda x: [torch.from_numpy(y) for y in session.run(None, {"images": x.numpy()})],
    )


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_run_leaves_with_its_maps(run: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"model.{kind}"
    with pytest.raises(SystemExit) as end:
        main(["export", "--checkpoint", str(run), "--format", kind, "--with-maps", "--out", str(out)])
    assert end.value.code == 0
    assert "differs from torch by at most" in capsys.readouterr().out
    names, texts, call = read(out)
    restored = restore(run)
    images = restored.task.normalise(torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8))
    with capture(restored.task.network) as maps, torch.no_grad():
        wanted: dict[str, Tensor] = {"logits": restored.task.network(images), **maps}
    assert names == list(wanted)
    assert len(names) == 1 + 2 * 4
    for name, value in zip(names, call(images.contiguous()), strict=True):
        scale = max(1.0, wanted[name].abs().max().item())
        assert (value - wanted[name]).abs().max().item() < 1e-5 * scale, name
    assert json.loads(texts["class_names"]) == restored.task.class_names
    assert texts["image_size"] == "64"
    assert json.loads(texts["mean"]) == pytest.approx(restored.task.mean.flatten().tolist(), abs=1e-6)
    assert json.loads(texts["std"]) == pytest.approx(restored.task.std.flatten().tolist(), abs=1e-6)
    facts = json.loads(texts["maps"])
    assert list(facts) == names[1:]
    assert {fact["kind"] for fact in facts.values()} == {"channel", "spatial"}
