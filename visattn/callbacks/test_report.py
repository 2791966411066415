"""What a test leaves in the run folder: ``result.json``, every prediction, two pictures."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from visattn.callbacks.epoch_table import read_rows, write_rows

PACKAGES = ("visattn", "torch", "torchvision", "timm", "lightning", "albumentations")
BINS = 15


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
        self._outputs: list[dict[str, Tensor]] = []
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
        self._images += len(batch.labels) * trainer.world_size

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget an earlier test."""
        del trainer, pl_module
        self._outputs = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep a batch's predictions."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self._outputs.append({key: value.detach().cpu() for key, value in outputs.items()})

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write everything, on rank 0, from all ranks' predictions."""
        kept = {key: torch.cat([output[key] for output in self._outputs]) for key in ("logits", "labels", "indices")}
        if trainer.world_size > 1:
            ranks: list[dict[str, Tensor]] = [{}] * trainer.world_size
            torch.distributed.all_gather_object(ranks, kept)
            kept = {key: torch.cat([rank[key] for rank in ranks]) for key in kept}
        if not trainer.is_global_zero:
            return
        order = kept["indices"].argsort()
        logits, labels = kept["logits"][order], kept["labels"][order]
        names: list[str] = pl_module.class_names  # type: ignore[assignment]
        matrix = multiclass_confusion_matrix(logits, labels, len(names))
        _save(confusion_picture(matrix, names), self.run / "confusion.png")
        _save(calibration_picture(logits, labels), self.run / "calibration.png")
        files: list[str] = trainer.datamodule.dataset("test").names  # type: ignore[attr-defined]
        _predictions(self.run / "predictions.csv", logits, labels, files, names)
        scores = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        scores["test/ece"] = float(multiclass_calibration_error(logits.softmax(1), labels, len(names), n_bins=BINS))
        self._result(trainer, pl_module, scores, _per_class(matrix, names))

    def _result(
        self, trainer: L.Trainer, pl_module: Any, scores: dict[str, float], per_class: dict[str, float]
    ) -> None:
        result = {
            **self.facts,
            "metrics": scores,
            "per_class": per_class,
            "parameters": sum(p.numel() for p in pl_module.network.parameters()),
            "train_seconds": sum(float(row["seconds"]) for row in read_rows(self.run / "metrics.csv")),
            "train_images_per_second": self._images / self._seconds if self._seconds else None,
            "epochs": trainer.current_epoch,
            "pairing": _pairing(self.run),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in PACKAGES},
        }
        part = self.run / ".result.json.part"
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(self.run / "result.json")


def confusion_picture(matrix: Tensor, names: list[str]) -> Figure:
    """Draw a confusion matrix ``(classes, classes)`` of counts, rows true, as shares of each row."""
    shares = matrix.float() / matrix.sum(1, keepdim=True).clamp(min=1)
    side = min(14.0, 2.5 + 0.42 * len(names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"confusion, {int(matrix.sum())} pictures")
    if len(names) <= 40:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= 20:
        for (i, j), count in zip(
            torch.cartesian_prod(*[torch.arange(len(names))] * 2).tolist(), matrix.flatten().tolist(), strict=True
        ):
            if count:
                shade = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=shade)
    figure.colorbar(image, label="share of the true class")
    return figure


def calibration_picture(logits: Tensor, labels: Tensor) -> Figure:
    """Draw accuracy against confidence in ``BINS`` bins, with the count of each bin."""
    confidence, guess = logits.softmax(1).max(1)
    right = (guess == labels).float()
    place = (confidence * BINS).long().clamp(max=BINS - 1)
    count = torch.bincount(place, minlength=BINS).float()
    accuracy = torch.bincount(place, weights=right, minlength=BINS) / count.clamp(min=1)
    figure = Figure(figsize=(5, 5), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middle = ((torch.arange(BINS) + 0.5) / BINS).numpy()
    used = (count > 0).numpy()
    top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfectly calibrated")
    top.plot(middle[used], accuracy.numpy()[used], marker="o", color="tab:blue", label="measured")
    top.set(ylabel="accuracy", ylim=(0, 1.02), title="calibration on the test set")
    top.legend(frameon=False, loc="upper left")
    below.bar(middle, count.numpy(), width=0.9 / BINS, color="tab:blue")
    below.set(xlabel="confidence", ylabel="pictures", xlim=(0, 1))
    return figure


def _save(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"savefig.facecolor": "white"}):
        figure.savefig(path, dpi=110)


def _per_class(matrix: Tensor, names: list[str]) -> dict[str, float]:
    """Return each class's accuracy; a class without pictures has none."""
    counts = matrix.sum(1)
    return {name: float(matrix[i, i] / counts[i]) for i, name in enumerate(names) if counts[i]}


def _predictions(path: Path, logits: Tensor, labels: Tensor, files: list[str], names: list[str]) -> None:
    confidence, guess = logits.softmax(1).max(1)
    columns = ["picture", "label", "predicted", "confidence"]
    cells = zip(files, labels.tolist(), guess.tolist(), confidence.tolist(), strict=True)
    rows = [(file, names[label], names[best], f"{sure:.6f}") for file, label, best, sure in cells]
    write_rows(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])


def _pairing(run: Path) -> dict[str, str] | None:
    path = run / "pairing.json"
    if not path.exists():
        return None
    proof = json.loads(path.read_text())
    return {key: proof[key] for key in ("host_weights", "order")}
