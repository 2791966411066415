"""``metrics.csv``: one row an epoch, also after a restart; and a line on the screen with the time that is left."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import lightning as L

COLUMNS = ["epoch", "step", "train/loss", "val/loss", "val/top1", "val/top5", "lr", "seconds"]


def write_rows(path: Path, columns: list[str], rows: list[dict[str, object]]) -> None:
    """Write a CSV file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none if it is absent."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class EpochTable(L.Callback):
    """Keep ``metrics.csv`` in the run folder and say how far the run is.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "metrics.csv"
        self._started = self._epoch_started = 0.0
        self._done = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop rows of epochs that a restart will run again."""
        del pl_module
        self._started = time.monotonic()
        if trainer.is_global_zero:
            kept = [row for row in read_rows(self.path) if int(row["epoch"]) < trainer.current_epoch]
            write_rows(self.path, COLUMNS, [dict(row) for row in kept])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        del trainer, pl_module
        self._epoch_started = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row."""
        del pl_module
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row: dict[str, object] = {key: f"{scores[key]:.6f}" for key in COLUMNS if key in scores}
        row |= {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": f"{trainer.optimizers[0].param_groups[0]['lr']:.3e}",
            "seconds": f"{now - self._epoch_started:.2f}",
        }
        write_rows(self.path, COLUMNS, [*[dict[str, object](r) for r in read_rows(self.path)], row])
        self._done += 1
        self._say(trainer, scores, (now - self._started) / self._done)

    def _say(self, trainer: L.Trainer, scores: dict[str, float], pace: float) -> None:
        total = trainer.max_epochs or 0
        left = pace * (total - trainer.current_epoch - 1)
        line = f"epoch {trainer.current_epoch + 1}/{total}"
        if "train/loss" in scores:
            line += f"  train loss {scores['train/loss']:.3f}"
        if "val/top1" in scores:
            line += f"  val top-1 {100 * scores['val/top1']:.1f} %"
        if left > 0:
            line += f"  about {left / 60:.1f} min left" if left > 90 else f"  about {left:.0f} s left"
        bar = trainer.progress_bar_callback
        bar.print(line) if bar is not None else print(line, flush=True)  # noqa: T201 - the screen is its purpose
