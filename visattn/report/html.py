"""``report.html``: one file that loads nothing and runs nothing; every word from outside is escaped."""

from __future__ import annotations

import html
import json
from string import Template

from visattn.report import figures as write
from visattn.report.canvas import ROLES, to_inline
from visattn.report.gallery import gallery
from visattn.report.plots import Plot, dresses
from visattn.report.style import CSS
from visattn.report.table import Report, Row
from visattn.report.verdict import Verdict, method, verdict
from visattn.report.words import facts, measured, over_pictures

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>$css</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="verdict">$verdict</p>
$details
$facts
$notices
</header>
<section>
<h2>Results</h2>
$tables
</section>
$plots
$gallery
<section>
<h2>How this was measured</h2>
<dl>
$method
</dl>
</section>
<footer>Written by visattn from the files in this folder; <code>visattn report</code> writes it again.</footer>
</main>
</body>
</html>
""")

# A swatch for each marker of the plots, in a box of 12.
_SHAPES = {
    "o": "<circle cx='6' cy='6' r='5'/>",
    "s": "<rect x='1.5' y='1.5' width='9' height='9'/>",
    "^": "<path d='M6 .8 11.4 10.8H.6z'/>",
    "D": "<path d='M6 .2 11.8 6 6 11.8 .2 6z'/>",
    "v": "<path d='M6 11.2 .6 1.2H11.4z'/>",
    "P": "<path d='M4 .5h4V4h3.500v4H8v3.500H4V8H.5V4H4z'/>",
    "X": "<path d='M3 .5 6 3.500 9 .5 11.500 3 8.500 6 11.500 9 9 11.500 6 8.500 3 11.500 .5 9 3.500 6 .5 3z'/>",
}


def page(report: Report, drawn: tuple[Plot, ...]) -> str:
    """Return the whole page.

    Args:
        report: the figures.
        drawn: what ``visattn.report.plots.draw`` made of them.
    """
    found = verdict(report)
    marks = {label: _mark(*look) for label, look in dresses(report).items()}
    return _PAGE.substitute(
        title=escape(report.comparison.title),
        css=CSS,
        verdict=escape(found.sentence),
        details="".join(f'<p class="details">{escape(text)}</p>' for text in found.details),
        facts=_facts(report),
        notices=_notices(report),
        tables=_scores(report, marks, found) + _costs(report, marks),
        plots=_plots(drawn),
        gallery=gallery(report, marks),
        method=_method(report),
    )


def escape(text: object) -> str:
    """Return ``text`` fit for HTML, in attributes too.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(str(text), quote=True)


def _mark(colour: str, marker: str) -> str:
    return (
        f'<svg class="mark" viewBox="0 0 12 12" fill="var({ROLES[colour]})" aria-hidden="true">{_SHAPES[marker]}</svg>'
    )


def _facts(report: Report) -> str:
    items = (f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in facts(report.comparison))
    return f'<div class="facts">{"".join(items)}</div>'


def _notices(report: Report) -> str:
    texts = [f"{proof.what} {proof.text}" for proof in report.pairing if proof.equal is False]
    if missing := report.comparison.unfinished:
        total = len(report.comparison.arms) * len(report.comparison.seeds)
        names = ", ".join(f"{cell.arm} seed {cell.seed}" for cell in missing)
        texts.append(f"{len(missing)} of {total} cells unfinished: {names}. The figures below leave them out.")
    return "".join(f'<p class="notice">{escape(text[0].upper() + text[1:])}</p>' for text in texts)


# ---------------------------------------------------------------- tables


def _scores(report: Report, marks: dict[str, str], found: Verdict) -> str:
    metric, draws = report.comparison.metric, report.comparison.pictures
    score = f"{write.sentence(metric.word)}, %"
    head = ["Arm", "Init", score, "Difference, points", "Effect, d_z", "p, t-test", "p, sign-flip", "p, Holm", ""]
    if draws:
        head.insert(4, "Over pictures, points")
    rows = []
    for row in report.rows:
        cells = [
            f'<td class="text">{escape(row.arm.init or write.DASH)}</td>',
            _score(row, len(report.comparison.seeds)),
        ]
        if difference := row.difference:
            interval = difference.interval
            cells += [
                _cell(write.points(interval.mean), _range(write.points(interval.low), write.points(interval.high))),
                *([_cell(over_pictures(report, row))] if draws else []),
                _cell(write.ratio(difference.effect)),
                _cell(write.p_value(difference.t_p)),
                _cell(write.p_value(difference.flip_p)),
                _cell(write.p_value(difference.holm_p)),
                f'<td class="text {difference.verdict}">{difference.verdict}</td>',
            ]
        else:
            word = "baseline" if row.is_baseline else "no shared seed"
            cells += [_cell(write.DASH)] * (6 if draws else 5) + [f'<td class="text note">{word}</td>']
        rows.append(_line(row, marks, cells))
    note = "on the test pictures: mean and 95 % t interval over seeds"
    return _table(escape(write.sentence(metric.name)), note, tuple(head), rows, text=(1, len(head) - 1))


def _score(row: Row, planned: int) -> str:
    if row.score is None:
        return _cell(write.DASH, f"0 of {planned} seeds")
    spread = f" ± {write.percent(row.score.half)}" if row.score.seeds > 1 else ""
    seeds = f"{row.score.seeds} of {planned} seed{'' if planned == 1 else 's'}"
    return _cell(f"{write.percent(row.score.mean)}{spread}", seeds)


def _costs(report: Report, marks: dict[str, str]) -> str:
    head = (
        "Arm",
        "Parameters",
        "MACs",
        "Latency",
        "Training time",
        "Training images/s",
        "Saved for backward",
        "Minutes a run",
    )
    rows = [
        _line(
            row,
            marks,
            [
                _cell(write.count(row.parameters), write.growth(row.parameters_ratio)),
                _cell(write.count(row.macs), write.growth(row.macs_ratio)),
                _timed(
                    row.cost.latency_ratio, row.cost.latency_ratio_low, row.cost.latency_ratio_high, row.cost.latency_ms
                ),
                _timed(row.cost.train_ratio, row.cost.train_ratio_low, row.cost.train_ratio_high, row.cost.train_ms),
                _cell(write.rate(row.train_rate), f"{write.rate(row.run_rate)} in the runs"),
                _cell(write.size(row.cost.saved_bytes), write.growth(row.saved_ratio)),
                _cell(write.ratio(row.train_seconds / 60)),
            ],
        )
        for row in report.rows
    ]
    note = measured(report.comparison) or "not measured: there is no cost.json"
    return _table("Cost", note, head, rows)


def _timed(ratio: float, low: float, high: float, time: float) -> str:
    ends = f"{_range(write.ratio(low), write.ratio(high))}, " if low < high else ""
    return _cell(write.times(ratio), f"{ends}{write.milliseconds(time)}")


def _range(low: str, high: str) -> str:
    return "" if write.DASH in (low, high) else f"{low} to {high}"


def _cell(text: str, small: str = "") -> str:
    return f"<td>{escape(text)}{f'<small>{escape(small)}</small>' if small else ''}</td>"


def _line(row: Row, marks: dict[str, str], cells: list[str]) -> str:
    spec = row.arm.spec
    # the spec is worth a line only where the label does not say it all
    full = "" if spec is None or spec == row.arm.label else spec if isinstance(spec, str) else json.dumps(spec)
    small = f"<small>{escape(full)}</small>" if full else ""
    return f'<tr><th scope="row">{marks[row.arm.label]}{escape(row.arm.label)}{small}</th>{"".join(cells)}</tr>'


def _table(title: str, note: str, head: tuple[str, ...], rows: list[str], text: tuple[int, ...] = ()) -> str:
    columns = "".join(
        f'<th scope="col"{" class=text" if index in text else ""}>{escape(name)}</th>'
        for index, name in enumerate(head)
    )
    return (
        f'<div class="panel"><h3>{title}<small>{escape(note)}</small></h3>'
        f'<div class="table" tabindex="0" role="region" aria-label="{title}"><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


# ---------------------------------------------------------------- plots and method


def _plots(drawn: tuple[Plot, ...]) -> str:
    if not drawn:
        return ""
    made = "".join(
        f"<figure><figcaption>{escape(plot.title)}<small>{escape(plot.note)}</small></figcaption>"
        f"{to_inline(plot.figure, plot.name)}</figure>"
        for plot in drawn
    )
    return f'<section><h2>Plots</h2><div class="plots">{made}</div></section>'


def _method(report: Report) -> str:
    comparison = report.comparison
    items = [("Command", f"<pre>{escape(comparison.command)}</pre>" if comparison.command else "not recorded")]
    if comparison.config:
        items.append(("Experiment", f"<code>{escape(comparison.config)}</code>"))
    items.append(("Pairing", _list([f"{proof.what} {proof.text}" for proof in report.pairing])))
    items.append(("Statistics", escape(method(report))))
    if cost := measured(comparison):
        items.append(("Cost", escape(f"{cost[0].upper()}{cost[1:]}.")))
    items.append(("Machine", _list([f"{name}: {value}" for name, value in comparison.machine.items()])))
    items.append(("Versions", _list([f"{name} {value}" for name, value in comparison.versions.items()])))
    if comparison.started:
        items.append(("Started", escape(comparison.started)))
    if comparison.unfinished:
        items.append(
            ("Unfinished", _list([f"{cell.arm} seed {cell.seed}: {cell.why}" for cell in comparison.unfinished]))
        )
    return "\n".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in items)


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else "not recorded"
