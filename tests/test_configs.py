"""Every shipped config can be built, and says what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from visattn.cli.train import RunCLI, quiet

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "configs/experiment").glob("*.yaml"))
TRAINERS = sorted((ROOT / "configs/trainer").glob("*.yaml"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two classes of eight tiny pictures."""
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (60, 50), (i * 20, 90, 30)).save(tmp_path / "pictures" / label / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("config", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment(config: Path, pictures: Path, tmp_path: Path) -> None:
    quiet()
    root = [f"--data.root={pictures}"] if "FolderData" in config.read_text() else []
    cli = RunCLI(["--config", str(config), *root, f"--out={tmp_path}", "--model.attention=cbam"])
    assert cli.model.class_names == cli.datamodule.class_names
    assert any("attention.cbam" in key for key in cli.model.state_dict())
    head = config.read_text().split("model:")[0]
    assert all(word in head for word in ("Reproduces:", "Expect:", "Time:"))


@pytest.mark.parametrize("config", TRAINERS, ids=lambda path: path.stem)
def test_trainer(config: Path) -> None:
    # instantiating one needs its machine; parsing checks every key and type
    from jsonargparse import ArgumentParser
    from lightning import Trainer

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer")
    parsed = parser.parse_path(config)
    assert parsed.trainer.accelerator in {"auto", "cpu", "gpu"}
