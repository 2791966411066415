"""Lines of facts that the page and its Markdown twin share."""

from __future__ import annotations

import math

from visattn.report import figures as write
from visattn.report.results import Comparison
from visattn.report.table import Report, Row


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what was compared, on what and for how long, as (name, value)."""
    data, machine = comparison.data, comparison.machine
    counts = [
        f"{number:,} {name}" for name, number in (("train", data.train), ("test", data.test)) if number is not None
    ]
    seen = [data.name, *counts, f"{len(data.classes)} classes" if data.classes else ""]
    seen.append(f"{data.image_size} px" if data.image_size else "")
    device = machine.get("gpu") or machine.get("cpu", "")
    cores = "" if machine.get("gpu") or "cores" not in machine else f", {machine['cores']} cores"
    found = [
        ("Host", comparison.host),
        ("Data", ", ".join(item for item in seen if item)),
        ("Seeds", ", ".join(map(str, comparison.seeds))),
        ("Machine", f"{device}{cores}" if device else ""),
        ("Took", f"{comparison.minutes:.1f} min" if math.isfinite(comparison.minutes) else ""),
    ]
    return [(name, value) for name, value in found if value]


def over_pictures(report: Report, row: Row) -> str:
    """Return the interval of a block's difference over draws of the test pictures, a dash where there is none."""
    draws = report.comparison.pictures
    low, high = draws.arms.get(row.arm.label, (math.nan, math.nan)) if draws else (math.nan, math.nan)
    return f"{write.points(low)} to {write.points(high)}" if math.isfinite(low + high) else write.DASH


def measured(comparison: Comparison) -> str:
    """Say how cost was measured, "" where it was not."""
    cost = comparison.cost
    if cost is None:
        return ""
    parts = [
        f"batch {cost.batch}" if cost.batch else "",
        f"{cost.image_size} px" if cost.image_size else "",
        f"on {cost.device}" if cost.device else "",
        f"{cost.threads} threads" if cost.threads else "",
    ]
    rounds = f", medians of {cost.rounds} interleaved rounds" if cost.rounds else ""
    return f"{', '.join(part for part in parts if part)}{rounds}; ratios are to the baseline"
