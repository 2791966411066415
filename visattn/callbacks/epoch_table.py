"""``metrics.csv``: one row an epoch, also after a restart; and a line on the screen with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L

from visattn.tasks.tables import read_rows, write_rows

FIRST, LAST = ("epoch", "step"), ("lr", "seconds")


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
            write_rows(self.path, _columns(kept), kept)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        del trainer, pl_module
        self._epoch_started = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row."""
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row: dict[str, object] = {key: f"{value:.6f}" for key, value in scores.items()}
        row |= {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": f"{trainer.optimizers[0].param_groups[0]['lr']:.3e}",
            "seconds": f"{now - self._epoch_started:.2f}",
        }
        rows: list[dict[str, Any]] = [*read_rows(self.path), row]
        write_rows(self.path, _columns(rows), rows)
        self._done += 1
        self._say(trainer, pl_module, scores, (now - self._started) / self._done)

    def _say(self, trainer: L.Trainer, task: Any, scores: dict[str, float], pace: float) -> None:
        total = trainer.max_epochs or 0
        left = pace * (total - trainer.current_epoch - 1)
        line = f"epoch {trainer.current_epoch + 1}/{total}"
        if "train/loss" in scores:
            line += f"  train loss {scores['train/loss']:.3f}"
        known = [(word, scores[f"val/{key}"]) for key, word in task.spoken.items() if f"val/{key}" in scores]
        if known:
            line += "  val " + ", ".join(f"{word} {100 * value:.1f} %" for word, value in known)
        if left > 0:
            line += f"  about {left / 60:.1f} min left" if left > 90 else f"  about {left:.0f} s left"
        bar = trainer.progress_bar_callback
        bar.print(line) if bar is not None else print(line, flush=True)  # noqa: T201 - the screen is its purpose


def _columns(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return what the rows hold: epoch and step, training, validation, the rest; a score may come with a later row."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    scores = [key for key in keys if key not in FIRST + LAST]
    return [*FIRST, *sorted(scores, key=lambda key: not key.startswith("train/")), *LAST]
