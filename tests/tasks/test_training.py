"""Training as a user runs it: what is kept, what is repeated exactly, what two processes agree on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from visattn.cli.main import main
from visattn.tasks.tables import read_rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/experiment/clutter_classification.yaml"
SMALL = ["--config", str(CONFIG), "--data.train=96", "--data.val=40", "--data.test=40", "--trainer.accelerator=cpu"]


def fit(*args: str) -> None:
    """Run ``visattn fit`` in this process."""
    with pytest.raises(SystemExit) as end:
        main(["fit", *SMALL, *args])
    assert end.value.code == 0


def state(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    newest = max((run / "checkpoints").glob("*.ckpt"))
    weights: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["state_dict"]
    return weights


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two states are the same, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_folder_is_complete(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(f"--out={run}", "--model.attention=cbam", "--trainer.max_epochs=2")
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "checkpoints", "result.json", "predictions.csv", "confusion.png"} <= names
    rows = read_rows(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    result = json.loads((run / "result.json").read_text())
    assert result["label"] == "cbam"
    assert result["init"] == "paper"
    assert result["seed"] == 0
    predicted = read_rows(run / "predictions.csv")
    right = sum(row["label"] == row["predicted"] for row in predicted) / len(predicted)
    assert right == pytest.approx(result["metrics"]["test/top1"])
    saved = torch.load(max((run / "checkpoints").glob("*")), weights_only=True)
    assert saved["hyper_parameters"]["class_names"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    "how",
    [
        [
            "--model.host={drop_path_rate: 0.2, drop_rate: 0.2}",
            "--model.mixup=0.2",
            "--model.cutmix=1.0",
            "--data.workers=1",
        ],
        ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.accumulate_grad_batches=2"],
    ],
    ids=["dropout-mixup-workers", "ema-accumulation"],
)
def test_a_resumed_run_is_bit_exact(tmp_path: Path, how: list[str]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(f"--out={whole}", *how, "--trainer.max_epochs=3", "--test_after=false")
    # the schedule must not know of the cut: the same three epochs, stopped after the second
    stop = ["--trainer.callbacks+=stops.StopAfter", "--trainer.callbacks.epochs=2"]
    fit(f"--out={cut}", *how, "--trainer.max_epochs=3", "--test_after=false", *stop)
    assert not equal(state(cut), state(whole))
    config = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(config.replace("epochs: 2", "epochs: 99"))
    with pytest.raises(SystemExit) as end:
        main(["fit", "--resume", str(cut)])
    assert end.value.code == 0
    assert equal(state(cut), state(whole))
    assert [r["epoch"] for r in read_rows(cut / "metrics.csv")] == ["0", "1", "2"]


def test_resume_falls_back_from_a_torn_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    fit(f"--out={run}", "--trainer.max_epochs=2", "--test_after=false")
    before = state(run)
    newest = max((run / "checkpoints").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(SystemExit):
        main(["fit", "--resume", str(run)])
    assert "going back to epoch=0000.ckpt" in capsys.readouterr().out
    assert equal(state(run), before)


def test_baseline_and_attention_are_paired(tmp_path: Path) -> None:
    proofs = {}
    for name in ("null", "cbam", "se"):
        fit(f"--out={tmp_path / name}", f"--model.attention={name}", "--trainer.max_epochs=1", "--test_after=false")
        proofs[name] = json.loads((tmp_path / name / "pairing.json").read_text())
    fit(f"--out={tmp_path / 'other'}", "--seed_everything=1", "--trainer.max_epochs=1", "--test_after=false")
    other = json.loads((tmp_path / "other" / "pairing.json").read_text())
    for key in ("host_weights", "order"):
        assert proofs["null"][key] == proofs["cbam"][key] == proofs["se"][key] != other[key]


def test_two_processes_reach_the_weights_of_one(tmp_path: Path) -> None:
    # a host without batch norm: its statistics are a rank's own, as everywhere
    how = ["--model.backbone=test_convnext", "--model.attention=se", "--trainer.max_epochs=2", "--test_after=true"]
    one, two = tmp_path / "one", tmp_path / "two"
    for run, devices in ((one, []), (two, ["--trainer.devices=2", "--trainer.strategy=ddp"])):
        command = [sys.executable, "-m", "visattn", "fit", *SMALL, *how, *devices, f"--out={run}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    a, b = state(one), state(two)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-5, atol=1e-5)
    first, second = (json.loads((run / "result.json").read_text())["metrics"] for run in (one, two))
    assert first["test/top1"] == second["test/top1"]
    files = [[row["picture"] for row in read_rows(run / "predictions.csv")] for run in (one, two)]
    assert files[0] == files[1], "every picture once, in order"


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains(tmp_path: Path, precision: str) -> None:
    run = tmp_path / "run"
    fit(
        f"--out={run}",
        f"--trainer.precision={precision}",
        "--model.attention=cbam",
        "--trainer.max_epochs=2",
        "--model.channels_last=true",
    )
    losses = [float(row["train/loss"]) for row in read_rows(run / "metrics.csv")]
    assert losses[1] < losses[0]


def test_layer_decay_and_rates_of_blocks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(
        f"--out={run}",
        "--model.attention=cbam",
        "--model.layer_decay=0.7",
        "--model.attention_lr=5",
        "--trainer.max_epochs=1",
        "--test_after=false",
    )
    groups = torch.load(max((run / "checkpoints").glob("*")), weights_only=True)["optimizer_states"][0]["param_groups"]
    scales = sorted({round(group["lr_scale"], 6) for group in groups})
    assert scales[0] < 1 < scales[-1] <= 5


def test_a_local_weights_file_starts_the_host(tmp_path: Path) -> None:
    from visattn.models.create import create_model

    torch.manual_seed(3)
    host = create_model("test_resnet", num_classes=10)
    renamed = {key.replace("fc.", "linear."): value for key, value in host.state_dict().items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in renamed.items()}}, tmp_path / "host.th")
    torch.manual_seed(4)
    loaded = create_model(
        "test_resnet", num_classes=10, weights=tmp_path / "host.th", rename={"linear.": "fc."}, attention="cbam"
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(loaded.eval()(images), host.eval()(images))
