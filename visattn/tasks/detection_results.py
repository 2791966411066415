"""What a test of a detector leaves in the run folder: detections, matches, curves, confusion, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visattn.maps.boxes import ROOM, draw_boxes
from visattn.maps.render import save_jpeg
from visattn.tasks.average_precision import BoxScores, Found
from visattn.tasks.classification_results import confusion_picture, save_figure
from visattn.tasks.found import marked, result_rows, surest
from visattn.tasks.matches import match, save_matches
from visattn.tasks.tables import write_json
from visattn.tasks.task import Results

OVERLAP = 0.5  # from which it can be of an object
PICTURES = 12  # drawn
NOTHING = "nothing"


def write_boxes(
    run: Path,
    pictures: Mapping[int, Found],
    scores: BoxScores,
    dataset: Any,
    names: Sequence[str],
    ids: Sequence[int],
) -> Results:
    """Write ``predictions.json``, ``matches.npz``, ``precision_recall.png``, ``confusion.png`` and ``pictures/``.

    Args:
        run: the run folder.
        pictures: what was found in each, by place in the dataset.
        scores: of these pictures.
        dataset: the test pictures.
        names: the classes.
        ids: what the data's format calls them.
    """
    rows = [row for place, one in pictures.items() for row in result_rows(one, dataset.image_ids[place], ids)]
    write_json(run / "predictions.json", rows, indent=None)
    save_matches(match(pictures, len(names)), run / "matches.npz")
    if scores.curves:
        save_figure(curves_picture(scores), run / "precision_recall.png")
    matrix = confusion(pictures, len(names))
    save_figure(confusion_picture(matrix, [*names, NOTHING], what="boxes"), run / "confusion.png")
    for place in list(pictures)[:: max(1, len(pictures) // PICTURES)][:PICTURES]:
        image, boxes = dataset.picture(place), marked(pictures[place], names)
        drawn = draw_boxes(image, boxes, size=max(ROOM, *image.shape[:2]), caption=str(dataset.names[place]))
        save_jpeg(drawn, run / "pictures" / f"{place:05d}.jpg")
    return Results({}, scores.per_class, {"per_class_AP50": scores.per_class_50})


def confusion(pictures: Mapping[int, Found], classes: int) -> NDArray[np.int64]:
    """Return counts ``(K + 1, K + 1)``, rows true, columns found; the last row and column are nothing.

    The detections that are sure take, the surest first, the free object that they overlap most, of whatever class.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for one in pictures.values():
        overlaps = _overlaps(one.boxes, one.true_boxes)
        free = ~one.crowd
        for i in surest(one):
            within = np.where(free, overlaps[i], 0.0)
            if within.size and within.max() >= OVERLAP:
                best = int(within.argmax())
                free[best] = False
                matrix[one.true_labels[best], one.labels[i]] += 1
            elif not (overlaps[i][one.crowd] >= OVERLAP).any():
                matrix[classes, one.labels[i]] += 1
        for label in one.true_labels[free]:
            matrix[label, classes] += 1
    return matrix


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union, ``(m, n)``."""
    shared = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inside = shared.clip(0).prod(2)
    both = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None] - inside
    return np.divide(inside, both, out=np.zeros_like(inside), where=both > 0)


def curves_picture(scores: BoxScores) -> Figure:
    """Draw precision over recall at an overlap of 0.5, the classes with the largest AP50 first."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    recalls = np.linspace(0, 1, 101)
    order = sorted(scores.curves, key=lambda name: -scores.per_class_50[name])
    for n, name in enumerate(order):
        label = f"{name}  {100 * scores.per_class_50[name]:.1f}" if n < 20 else None
        axes.plot(recalls, scores.curves[name], linewidth=1.4, label=label)
    mean = np.mean(list(scores.curves.values()), axis=0)
    axes.plot(recalls, mean, color="black", linewidth=2.4, label=f"mean  {100 * scores.metrics['AP50']:.1f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="boxes at an overlap of 0.5")
    axes.grid(alpha=0.3)
    figure.legend(title="AP50, %", frameon=False, loc="outside right upper", fontsize=8)
    return figure


def table(result: Mapping[str, Any]) -> str:
    """Return COCO's table of a finished test, and each class's line, in percent."""
    scores = {name.removeprefix("test/"): 100 * value for name, value in result["metrics"].items()}
    columns = [("all", ""), ("small", "_small"), ("medium", "_medium"), ("large", "_large")]

    def row(title: str, *names: str) -> str:
        cells = (f"{scores[name]:.1f}" if name in scores else "-" for name in names)
        return f"{title:<18}" + "".join(f"{cell:>8}" for cell in cells)

    lines = [
        f"{'test, %':<18}" + "".join(f"{word:>8}" for word in [*(word for word, _ in columns), "at .50", "at .75"])
    ]
    lines.append(row("AP", *(f"AP{end}" for _, end in columns), "AP50", "AP75"))
    lines.append(row("AR, 100 a picture", "AR100", *(f"AR{end}" for _, end in columns[1:])))
    lines += [row(f"AR, {count} a picture", f"AR{count}") for count in (10, 1)]
    classes, at_half = result["per_class"], result.get("per_class_AP50", {})
    width = min(30, max(map(len, ["class", *classes])))
    lines += ["", f"{'class':<{width}}{'AP':>8}{'AP50':>8}"] if classes else []
    for name, value in classes.items():
        lines.append(f"{name[:width]:<{width}}{100 * value:8.1f}{100 * at_half.get(name, float('nan')):8.1f}")
    return "\n".join(lines)
