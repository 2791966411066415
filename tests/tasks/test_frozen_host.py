"""``train: attention``: the host's bytes stay what they were through epochs, validations and a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import visattn
from visattn.callbacks.epoch_table import read_rows
from visattn.cli.main import main
from visattn.tasks.classification import ClassificationTask
from visattn.tasks.restore import restore
from visattn.weights import save_state_dict

CONFIG = Path(__file__).parents[2] / "configs/experiment/clutter_classification.yaml"
SMALL = ["--config", str(CONFIG), "--data.train=96", "--data.val=40", "--data.test=40", "--trainer.accelerator=cpu"]


def norms(task: ClassificationTask) -> dict[str, bool]:
    return {name: m.training for name, m in task.network.named_modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize("attention", [None, "coordatt"])
def test_modes_follow_whoever_sets_them(attention: str | None) -> None:
    task = ClassificationTask("test_resnet", attention=attention, train="attention", class_names=["a", "b"])
    for _ in range(2):
        assert task.training
        for name, awake in norms(task).items():
            assert awake == (".attention." in name)
        learns = {name for name, p in task.network.named_parameters() if p.requires_grad}
        assert {name for name in learns if ".attention." not in name} == {"fc.weight", "fc.bias"}
        task.eval()
        assert not any(norms(task).values())
        nn.ModuleDict({"wrapper": task}).train()  # as DDP sets the modes of what it holds


def test_another_word_is_refused() -> None:
    with pytest.raises(visattn.UsageError, match="value of train 'head'; valid: all, attention"):
        ClassificationTask("test_resnet", train="head")  # type: ignore[arg-type]


def call(*args: object) -> int:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return int(end.value.code or 0)


def network(run: Path) -> dict[str, Tensor]:
    newest = max((run / "checkpoints").glob("*.ckpt"))
    state = torch.load(newest, weights_only=True)["state_dict"]
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained host's file, and a run that put attention into it."""
    folder = tmp_path_factory.mktemp("frozen")
    assert call("fit", *SMALL, f"--out={folder / 'host'}", "--trainer.max_epochs=1", "--test_after=false") == 0
    save_state_dict(network(folder / "host"), folder / "host.safetensors")
    assert call("fit", *SMALL, *frozen(folder), f"--out={folder / 'run'}", "--trainer.max_epochs=3") == 0
    return folder


def frozen(folder: Path) -> list[str]:
    return [
        "--model.train=attention",
        "--model.attention=coordatt",
        "--model.attention_init=identity",
        f"--model.weights={folder / 'host.safetensors'}",
    ]


@pytest.mark.slow
def test_the_hosts_bytes_stay_and_all_else_learns(folder: Path) -> None:
    host, after = network(folder / "host"), network(folder / "run")
    added = after.keys() - host.keys()
    assert all(".attention.coordatt." in key for key in added)
    for key, value in host.items():
        assert torch.equal(after[key], value) == (not key.startswith("fc.")), key
    assert all(after[key] > 0 for key in added if key.endswith("num_batches_tracked"))
    assert all(after[key].abs() > 0 for key in added if key.endswith("strength"))


@pytest.mark.slow
def test_the_runs_file_makes_the_model_from_its_host(folder: Path) -> None:
    path = folder / "run" / "attention.safetensors"
    after = network(folder / "run")
    with safe_open(path, "pt") as file:
        kept = {key for key in after if ".attention." in key or key.startswith("fc.")}
        assert set(file.keys()) == kept
    assert path.stat().st_size < 0.2 * (folder / "host.safetensors").stat().st_size
    model = visattn.create_model(
        "test_resnet", num_classes=10, weights=folder / "host.safetensors", attention="coordatt"
    )
    visattn.load_attention(model, path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), restore(folder / "run").task.network(images))


@pytest.mark.slow
def test_a_resumed_run_is_bit_exact_and_keeps_the_host(folder: Path) -> None:
    cut = folder / "cut"
    stop = ["--trainer.callbacks+=stops.StopAfter", "--trainer.callbacks.epochs=2"]
    how = [*frozen(folder), "--trainer.max_epochs=3", "--test_after=false"]
    assert call("fit", *SMALL, *how, *stop, f"--out={cut}") == 0
    config = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(config.replace("epochs: 2", "epochs: 99"))
    assert call("fit", "--resume", cut) == 0
    whole, resumed = network(folder / "run"), network(cut)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.slow
def test_its_run_is_a_run_like_any_other(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    for i in range(2):
        Image.new("RGB", (80, 70), (90 * i, 30, 200)).save(tmp_path / "in" / f"{i}.png")
    checkpoint = ["--checkpoint", folder / "run"]
    assert call("predict", *checkpoint, tmp_path / "in", "--out", tmp_path / "p.csv") == 0
    assert len(read_rows(tmp_path / "p.csv")) == 2
    assert call("maps", *checkpoint, tmp_path / "in", "--out", tmp_path / "maps") == 0
    assert len(list((tmp_path / "maps").glob("*.jpg"))) == 2
    small = ["--out", tmp_path / "v", "--ckpt_path", folder / "run"]
    assert call("validate", *SMALL, *frozen(folder), *small) == 0


@pytest.mark.slow
def test_a_comparison_of_frozen_hosts(folder: Path, tmp_path: Path) -> None:
    how = [arg for arg in frozen(folder) if "attention=coord" not in arg]
    sizes = [
        "--data.train=64",
        "--data.val=32",
        "--data.test=32",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]
    arms = ["--attention", "none,se", "--seeds", "0", "--out", tmp_path / "cmp"]
    assert call("compare", "run", "--config", CONFIG, *arms, *how, *sizes) == 0
    host = network(folder / "host")
    for arm in ("none", "se"):
        after = network(tmp_path / "cmp" / arm / "seed0")
        assert all(torch.equal(after[key], value) for key, value in host.items() if not key.startswith("fc."))
        assert not torch.equal(after["fc.weight"], host["fc.weight"])
