"""What a test leaves in the run folder: ``result.json``, and what its task writes beside it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from visattn.tasks.tables import read_rows, write_json
from visattn.tasks.task import Results

PACKAGES = ("visattn", "torch", "torchvision", "timm", "lightning", "albumentations")


class TestReport(L.Callback):
    """Write the figures and predictions of a test.

    Args:
        run: the run folder.
        facts: what ``result.json`` says besides: attention, label, init, seed.
    """

    __test__ = False  # pytest: this is no test

    def __init__(self, run: Path, facts: dict[str, Any]) -> None:
        self.run = run
        self.facts = facts
        self._outputs: list[Any] = []
        self._seconds = self._images = 0.0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the training throughput."""
        del trainer, pl_module
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count images and seconds up to the end of this batch; validation is not counted."""
        del pl_module, outputs, batch_idx
        now = time.monotonic()
        self._seconds += now - self._started
        self._started = now
        self._images += len(batch.indices) * trainer.world_size

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget an earlier test."""
        del trainer, pl_module
        self._outputs = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep what a batch returned."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        if outputs is not None:
            self._outputs.append(move_data_to_device(outputs, "cpu"))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write everything, on rank 0, from all ranks' predictions."""
        outputs = self._outputs
        if trainer.world_size > 1:
            ranks: list[list[Any]] = [[]] * trainer.world_size
            torch.distributed.all_gather_object(ranks, outputs)
            outputs = [output for rank in ranks for output in rank]
        if not trainer.is_global_zero:
            return
        task: Any = pl_module
        results = task.write_results(self.run, outputs, trainer.datamodule)  # type: ignore[attr-defined]
        scores = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        self._result(trainer, task, scores, results)

    def _result(self, trainer: L.Trainer, task: Any, scores: dict[str, float], results: Results) -> None:
        result = {
            **self.facts,
            "metric": task.metric._asdict(),
            "metrics": scores | results.metrics,
            "per_class": results.per_class,
            **results.more,
            "parameters": sum(p.numel() for p in task.network.parameters()),
            "train_seconds": sum(float(row["seconds"]) for row in read_rows(self.run / "metrics.csv")),
            "train_images_per_second": self._images / self._seconds if self._seconds else None,
            "epochs": trainer.current_epoch,
            "pairing": _pairing(self.run),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in PACKAGES},
        }
        write_json(self.run / "result.json", result)


def _pairing(run: Path) -> dict[str, str] | None:
    path = run / "pairing.json"
    if not path.exists():
        return None
    proof = json.loads(path.read_text())
    return {key: proof[key] for key in ("host_weights", "order")}
