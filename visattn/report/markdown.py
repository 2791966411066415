"""``report.md``: the facts of the page as Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from visattn.report import figures as write
from visattn.report.table import Report, Row
from visattn.report.verdict import method, verdict
from visattn.report.words import facts, measured, over_pictures


def markdown(report: Report) -> str:
    """Return the report as Markdown; names from outside can neither end a cell nor become markup."""
    comparison, found = report.comparison, verdict(report)
    parts = [f"# {escape(comparison.title)}", f"**{escape(found.sentence)}**"]
    parts += [escape(text) for text in found.details]
    parts += ["\n".join(f"- {name}: {escape(value)}" for name, value in facts(comparison))]
    parts += [f"## {escape(write.sentence(comparison.metric.name))}"]
    parts += [_scores(report), "## Cost", _costs(report), f"Cost: {escape(measured(comparison) or 'not measured')}."]
    if classes := _classes(report):
        parts += ["## Classes", classes]
    if comparison.gallery and comparison.gallery.rows:
        parts += ["## Maps", _maps(report)]
    parts += ["## How this was measured"]
    if comparison.command:
        parts.append(_fenced(comparison.command))
    lines = [f"- {proof.what}: {escape(proof.text)}" for proof in report.pairing]
    if comparison.config:
        lines.append(f"- experiment: {escape(comparison.config)}")
    lines += [
        f"- {escape(name)}: {escape(value)}"
        for name, value in (*comparison.machine.items(), *comparison.versions.items())
    ]
    parts += ["\n".join(lines), escape(method(report))]
    if comparison.unfinished:
        parts += ["## Unfinished cells"]
        parts += [
            "\n".join(f"- {escape(f'{cell.arm} seed {cell.seed}: {cell.why}')}" for cell in comparison.unfinished)
        ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Return ``text`` on one line, with what Markdown and HTML read as markup made plain.

    Example:
        >>> print(escape("a|b <i> snake_case"))
        a\|b &lt;i&gt; snake_case
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|])", r"\\\1", line)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", line)  # within a word an underscore is plain already


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> str:
    rule = ["---"] * text + ["---:"] * (len(head) - text)
    lines = [head, rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scores(report: Report) -> str:
    head = ["arm", "init", "verdict", f"{escape(report.comparison.metric.word)} %", "seeds", "difference (points)"]
    if report.comparison.pictures:
        head.append("over pictures (points)")
    head += ["d_z", "p t-test", "p sign-flip", "p Holm"]
    return _table(head, [_scored(report, row) for row in report.rows], text=3)


def _scored(report: Report, row: Row) -> list[str]:
    cells = [row.arm.label, row.arm.init or write.DASH]
    cells.append("baseline" if row.is_baseline else row.difference.verdict if row.difference else "no shared seed")
    if row.score is None:
        cells += [write.DASH, "0"]
    else:
        spread = f" ± {write.percent(row.score.half)}" if row.score.seeds > 1 else ""
        cells += [f"{write.percent(row.score.mean)}{spread}", str(row.score.seeds)]
    if (found := row.difference) is None:
        return [*cells, *[write.DASH] * (6 if report.comparison.pictures else 5)]
    ends = f" ({write.points(found.interval.low)} to {write.points(found.interval.high)})"
    shown = f"{write.points(found.interval.mean)}{ends if found.interval.seeds > 1 else ''}"
    cells += [shown, *([over_pictures(report, row)] if report.comparison.pictures else [])]
    return [*cells, write.ratio(found.effect), *map(write.p_value, (found.t_p, found.flip_p, found.holm_p))]


def _costs(report: Report) -> str:
    head = (
        "arm",
        "parameters",
        "MACs",
        "latency",
        "training time",
        "training images/s",
        "saved for backward",
        "minutes a run",
    )
    rows = [
        [
            row.arm.label,
            f"{write.count(row.parameters)} ({write.growth(row.parameters_ratio)})",
            f"{write.count(row.macs)} ({write.growth(row.macs_ratio)})",
            _timed(row.cost.latency_ratio, row.cost.latency_ratio_low, row.cost.latency_ratio_high),
            _timed(row.cost.train_ratio, row.cost.train_ratio_low, row.cost.train_ratio_high),
            write.rate(row.train_rate),
            write.size(row.cost.saved_bytes),
            write.ratio(row.train_seconds / 60),
        ]
        for row in report.rows
    ]
    return _table(head, rows)


def _timed(ratio: float, low: float, high: float) -> str:
    return f"{write.times(ratio)} ({write.ratio(low)} to {write.ratio(high)})" if low < high else write.times(ratio)


def _classes(report: Report) -> str:
    arms = [row.arm.label for row in report.rows if report.comparison.of(row.arm.label)]
    means: dict[str, dict[str, float]] = {}
    for label in arms:
        cells = report.comparison.of(label)
        for name in cells[0].per_class:
            values = [cell.per_class[name] for cell in cells if name in cell.per_class]
            means.setdefault(name, {})[label] = sum(values) / len(values)
    rows = [[name, *(write.percent(found.get(label, float("nan"))) for label in arms)] for name, found in means.items()]
    return _table(("class, %", *map(escape, arms)), rows) if rows else ""


def _maps(report: Report) -> str:
    gallery = report.comparison.gallery
    rows = [
        [
            row.arm,
            row.key or row.kind,
            ", ".join(f"{name} {write.ratio(value)}" for name, value in row.score.items()) or write.DASH,
        ]
        for row in (gallery.rows if gallery else ())
    ]
    return _table(("arm", "map", "score"), rows, text=3)
