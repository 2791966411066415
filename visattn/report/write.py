"""Write the report beside the results it was made from."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from visattn.report.html import page
from visattn.report.markdown import markdown
from visattn.report.plots import draw
from visattn.report.results import read_comparison
from visattn.report.table import Report, Row, build
from visattn.report.verdict import verdict


def write_report(folder: Path) -> Path:
    """Write ``results.csv``, ``results.json``, ``report.md`` and ``report.html``; return the path of the last.

    Each file is replaced in one step, so that a killed run leaves the old one or the new one.

    Args:
        folder: a comparison, finished or not.

    Raises:
        UsageError: the folder is not a comparison, or one of its files is damaged.

    Example:
        >>> write_report(Path("nowhere"))
        Traceback (most recent call last):
        visattn.types.UsageError: 'nowhere' is not a comparison: there is no such folder
    """
    folder = Path(folder)
    report = build(read_comparison(folder))
    _replace(folder / "results.csv", cells_csv(report))
    _replace(folder / "results.json", json.dumps(flat(report), indent=2, allow_nan=False) + "\n")
    _replace(folder / "report.md", markdown(report))
    _replace(folder / "report.html", page(report, draw(report)))
    return folder / "report.html"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def cells_csv(report: Report) -> str:
    """Return one line a finished cell, for a spreadsheet or pandas."""
    cells = [cell for arm in report.comparison.arms for cell in report.comparison.of(arm.label)]
    metrics = list(dict.fromkeys(name for cell in cells for name in cell.metrics))
    inits = {arm.label: arm.init for arm in report.comparison.arms}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ("parameters", "epochs", "train_seconds", "images_per_second", "host_weights", "order", "finished")
    writer.writerow(["arm", "init", "seed", *metrics, *head])
    for cell in cells:
        figures = [_known(getattr(cell, name)) for name in head]
        writer.writerow([cell.arm, inits[cell.arm], cell.seed, *(cell.metrics.get(name) for name in metrics), *figures])
    return buffer.getvalue()


def flat(report: Report) -> dict[str, Any]:
    """Return the verdict and a flat record an arm, ready for JSON: what is unknown is None."""
    found, comparison = verdict(report), report.comparison
    return {
        "title": comparison.title,
        "verdict": found.sentence,
        "decided": found.decided,
        "paired": {proof.what: proof.equal for proof in report.pairing},
        "baseline": comparison.baseline,
        "seeds": list(comparison.seeds),
        "unfinished": [{"arm": cell.arm, "seed": cell.seed, "why": cell.why} for cell in comparison.unfinished],
        "metric": comparison.metric.key,
        "arms": [_record(report, row) for row in report.rows],
    }


def _record(report: Report, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"arm": row.arm.label, "init": row.arm.init or None, "seeds": list(row.seeds)}
    if score := row.score:
        key = report.comparison.metric.key
        record |= {key: score.mean, f"{key}_low": score.low, f"{key}_high": score.high}
    if difference := row.difference:
        low, high = difference.interval.low, difference.interval.high
        record |= {"difference": difference.interval.mean, "difference_low": low, "difference_high": high}
        record |= {"effect": difference.effect, "p_t": difference.t_p, "p_sign_flip": difference.flip_p}
        record |= {"p_holm": difference.holm_p, "verdict": difference.verdict, "reason": difference.reason}
    if (draws := report.comparison.pictures) and row.arm.label in draws.arms:
        low, high = draws.arms[row.arm.label]
        record |= {"difference_pictures_low": low, "difference_pictures_high": high}
    record |= {"parameters": row.parameters, "parameters_ratio": row.parameters_ratio, "macs_ratio": row.macs_ratio}
    record |= {"train_images_per_second": row.train_rate, "run_images_per_second": row.run_rate}
    record |= {"train_seconds": row.train_seconds}
    record |= {name: value for name, value in row.cost._asdict().items() if name != "parameters"}
    return {name: _known(value) for name, value in record.items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
