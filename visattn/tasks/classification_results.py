"""What a test of a classifier leaves in the run folder: every prediction, two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from visattn.tasks.tables import write_rows
from visattn.tasks.task import Results

BINS = 15


def write_classes(run: Path, outputs: Sequence[dict[str, Tensor]], files: Sequence[str], names: list[str]) -> Results:
    """Write ``predictions.csv``, ``confusion.png`` and ``calibration.png``.

    Args:
        run: the run folder.
        outputs: ``logits``, ``labels`` and ``indices`` of every batch.
        files: the pictures' names, by index.
        names: the classes.
    """
    kept = {key: torch.cat([output[key] for output in outputs]) for key in ("logits", "labels", "indices")}
    order = kept["indices"].argsort()
    logits, labels = kept["logits"][order], kept["labels"][order]
    matrix = multiclass_confusion_matrix(logits, labels, len(names))
    save_figure(confusion_picture(matrix, names), run / "confusion.png")
    save_figure(calibration_picture(logits, labels), run / "calibration.png")
    _predictions(run / "predictions.csv", logits, labels, files, names)
    ece = float(multiclass_calibration_error(logits.softmax(1), labels, len(names), n_bins=BINS))
    return Results({"test/ece": ece}, _per_class(matrix, names), {})


def confusion_picture(counts: Any, names: Sequence[str], what: str = "pictures") -> Figure:
    """Draw a confusion matrix ``(classes, classes)`` of counts, rows true, as shares of each row."""
    matrix = torch.as_tensor(counts)
    shares = matrix.float() / matrix.sum(1, keepdim=True).clamp(min=1)
    side = min(14.0, 2.5 + 0.42 * len(names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"confusion, {int(matrix.sum())} {what}")
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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG on white."""
    with mpl.rc_context({"savefig.facecolor": "white"}):
        figure.savefig(path, dpi=110)


def _per_class(matrix: Tensor, names: list[str]) -> dict[str, float]:
    """Return each class's accuracy; a class without pictures has none."""
    counts = matrix.sum(1)
    return {name: float(matrix[i, i] / counts[i]) for i, name in enumerate(names) if counts[i]}


def _predictions(path: Path, logits: Tensor, labels: Tensor, files: Sequence[str], names: list[str]) -> None:
    confidence, guess = logits.softmax(1).max(1)
    columns = ["picture", "label", "predicted", "confidence"]
    cells = zip(files, labels.tolist(), guess.tolist(), confidence.tolist(), strict=True)
    rows = [(file, names[label], names[best], f"{sure:.6f}") for file, label, best, sure in cells]
    write_rows(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])
