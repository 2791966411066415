"""Every script, end to end, on what the one before it made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visattn.tasks.tables import read_rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ["--data.train=64", "--data.val=20", "--data.test=20", "--trainer.max_epochs=1"]


def script(name: str, *args: str, cwd: Path) -> str:
    """Run a script and return what it printed."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run and some pictures."""
    folder = tmp_path_factory.mktemp("scripts")
    out = script(
        "train",
        "--config",
        "experiment/clutter_classification",
        *SMALL,
        "--model.attention=cbam",
        "--out=run",
        cwd=folder,
    )
    assert "test top-1" in out
    (folder / "pictures").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.jpg")
    return folder


def test_evaluate(work: Path) -> None:
    out = script("evaluate", "--config", "run/config.yaml", "--ckpt_path=run", "--out=again", cwd=work)
    assert "test top-1" in out


def test_predict(work: Path) -> None:
    script("predict", "pictures", "--checkpoint", "run", "--out", "named.csv", cwd=work)
    rows = read_rows(work / "named.csv")
    assert [Path(row["picture"]).name for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]
    assert all(abs(sum(float(row[str(c)]) for c in range(10)) - 1) < 1e-4 for row in rows)


def test_maps(work: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "visattn", "maps", "pictures", "--checkpoint", "run", "--out", "drawn"],
        cwd=work,
        check=True,
    )
    sheets = sorted((work / "drawn").glob("*.jpg"))
    assert [path.name for path in sheets] == ["0.jpg", "1.jpg", "2.jpg"]
    assert np.asarray(Image.open(sheets[0])).std() > 20


def test_export(work: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = script("export", "--checkpoint", "run", "--with-maps", "--out", "model.onnx", cwd=work)
    assert "differs from torch by at most" in out
    import onnxruntime

    names = [output.name for output in onnxruntime.InferenceSession(work / "model.onnx").get_outputs()]
    assert "logits" in names
    assert any(name.endswith("cbam.spatial") for name in names)


def test_benchmark(work: Path) -> None:
    out = script(
        "benchmark",
        "--backbone",
        "test_resnet",
        "--attention",
        "none,eca",
        "--image_size",
        "64",
        "--rounds",
        "2",
        cwd=work,
    )
    assert out.splitlines()[2].startswith("none")
    assert out.splitlines()[3].startswith("eca")


def test_compare_twice(work: Path) -> None:
    args = [
        "run",
        "--config",
        "experiment/clutter_classification",
        *SMALL,
        "--attention",
        "eca",
        "--seeds",
        "0",
        "--out",
        "cmp",
    ]
    first = script("compare", *args, cwd=work)
    assert "2/2 cells" in first
    assert (work / "cmp/report.html").is_file()
    kept = (work / "cmp/eca/seed0/result.json").read_bytes()
    again = script("compare", *args, cwd=work)
    assert "2 finished" in again
    assert (work / "cmp/eca/seed0/result.json").read_bytes() == kept
    page = (work / "cmp/report.html").read_text()
    assert "cannot decide" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
