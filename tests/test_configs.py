"""Every shipped config can be built, and says what it is for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from visattn.cli.train import RunCLI, quiet

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "configs/experiment").glob("*.yaml"))
EDGES = ("xmin", "ymin", "xmax", "ymax")
TRAINERS = sorted((ROOT / "configs/trainer").glob("*.yaml"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two classes of eight tiny pictures."""
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (60, 50), (i * 20, 90, 30)).save(tmp_path / "pictures" / label / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def boxed(tmp_path: Path) -> dict[str, list[str]]:
    """Of each data module of boxes, what it needs on the command line: a folder of eight tiny pictures."""
    homes = {"CocoData": tmp_path / "coco", "VocData": tmp_path / "voc"}
    for home, folder in ((homes["CocoData"], "images"), (homes["VocData"], "JPEGImages")):
        (home / folder).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (60, 50), (i * 20, 90, 30)).save(home / folder / f"{i}.jpg")
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 50} for i in range(8)],
        "annotations": [{"id": i, "image_id": i, "category_id": i % 2 + 1, "bbox": [5, 5, 20, 20]} for i in range(8)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (homes["CocoData"] / "annotations.json").write_text(json.dumps(content))
    (homes["VocData"] / "Annotations").mkdir()
    corners = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(EDGES, (5, 5, 25, 25), strict=True))
    for i in range(8):
        name = f"<name>{('cat', 'dog')[i % 2]}</name><bndbox>{corners}</bndbox>"
        xml = f"<annotation><size><width>60</width><height>50</height></size><object>{name}</object></annotation>"
        (homes["VocData"] / f"Annotations/{i}.xml").write_text(xml)
    return {name: [f"--data.root={home}"] for name, home in homes.items()}


@pytest.mark.parametrize("config", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment(config: Path, pictures: Path, boxed: dict[str, list[str]], tmp_path: Path) -> None:
    quiet()
    needed = {"FolderData": [f"--data.root={pictures}"], **boxed}
    root = [option for name, options in needed.items() if name in config.read_text() for option in options]
    if "pretrained: true" in config.read_text():  # nothing is fetched here, and a small host will do
        root += ["--model.pretrained=false", "--model.backbone=test_resnet"]
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
