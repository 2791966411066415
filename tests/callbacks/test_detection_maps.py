"""The map callback of a detector: boxes beside maps, in files and in W&B's panel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from visattn.callbacks import AttentionMaps
from visattn.data.clutter import ClutterData
from visattn.tasks.detection import DetectionTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def test_boxes_beside_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    data = ClutterData("detection", train=8, val=6, test=1, batch_size=4, transforms=[])
    torch.manual_seed(0)
    options: dict[str, Any] = {"backbone": "test_resnet", "image_size": 96, "channels": 64, "attention": "cbam"}
    task = DetectionTask(**options, class_names=data.class_names)
    logger = WandbLogger(project="visattn", save_dir=str(tmp_path), offline=True)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[AttentionMaps(pictures=3)], log_every_n_steps=1,
        default_root_dir=tmp_path, **quiet,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    wandb.finish()
    chosen = json.loads((tmp_path / "maps/pictures.json").read_text())
    files = {path.name for path in (tmp_path / "maps/epoch=0000").glob("*.jpg")}
    assert "sheet.jpg" in files
    assert sum("layer2" in name and "spatial" in name for name in files) == 3
    with Image.open(tmp_path / "maps/epoch=0000/sheet.jpg") as sheet:
        assert np.asarray(sheet).std() > 20
    (log,) = tmp_path.rglob("run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    if read.returncode:
        pytest.skip("this wandb has no reader of offline runs")
    rows = [json.loads(line).get("history", {}).get("item", {}) for line in read.stdout.splitlines()]
    (row,) = [row for row in rows if any(key.startswith("maps/boxes") for key in row)]
    assert row["maps/boxes.count"] == 3
    assert (row["maps/boxes.height"], row["maps/boxes.width"]) == (96, 96)
    for number, groups, caption in zip(chosen, row["maps/boxes.all_boxes"], row["maps/boxes.captions"], strict=True):
        truths = data.dataset("val").boxes(number["id"])
        assert caption.startswith(f"id={number['id']} objects={len(truths)} found=")
        there = json.loads((log.parent / "files" / groups["there"]["path"]).read_text())
        drawn = [[one["position"][side] for side in ("minX", "minY", "maxX", "maxY")] for one in there["box_data"]]
        np.testing.assert_allclose(np.array(drawn).reshape(-1, 4), truths, atol=1e-4)
