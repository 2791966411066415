"""The plots of a report; each is None where nothing has been measured for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from visattn.report.canvas import (
    HEIGHT,
    INK,
    MUTED,
    PAPER,
    add_legend,
    axes,
    draw_interval,
    dress,
    fit_axis,
    row_axes,
    shorten,
    styled,
)
from visattn.report.figures import sentence
from visattn.report.table import Report

CLASSES_SHOWN = 14


class Plot(NamedTuple):
    """A figure with what is written under it."""

    name: str
    title: str
    note: str
    figure: Figure


def draw(report: Report) -> tuple[Plot, ...]:
    """Return every plot that the finished cells allow, in the order of the page."""
    with styled():
        named = {"Score": sentence(report.comparison.metric.name)}
        made = [(name, title.format(**named), note.format(**named), make(report)) for name, title, note, make in _PLOTS]
        drawn = tuple(Plot(name, title, note, figure) for name, title, note, figure in made if figure is not None)
        for plot in drawn:  # the layout is found once: found again, it would move by a hair with each file saved
            plot.figure.draw_without_rendering()
            plot.figure.set_layout_engine("none")
    return drawn


def dresses(report: Report) -> dict[str, tuple[str, str]]:
    """Return each arm's colour and marker."""
    order = [arm.label for arm in report.comparison.blocks]
    return {
        row.arm.label: dress(0 if row.is_baseline else order.index(row.arm.label), is_baseline=row.is_baseline)
        for row in report.rows
    }


def scores(report: Report) -> Figure | None:
    """Draw every seed's score, joined from arm to arm, with each arm's mean and interval."""
    means = [(row.arm.label, row.score) for row in report.rows if row.score]
    if not means:
        return None
    figure, ax = row_axes([label for label, _ in means])
    looks, found = dresses(report), [report.comparison.scores(label) for label, _ in means]
    for seed in report.comparison.seeds:
        line = [(100 * values[seed], place + 0.2) for place, values in enumerate(found) if seed in values]
        if line:
            ax.plot(*zip(*line, strict=True), color=MUTED, linewidth=0.7, alpha=0.45, zorder=1)
    for place, ((label, mean), values) in enumerate(zip(means, found, strict=True)):
        colour, marker = looks[label]
        for value in values.values():
            ax.plot(100 * value, place + 0.2, "o", color=colour, markersize=4.5, alpha=0.75, markeredgewidth=0)
        draw_interval(ax, mean, place - 0.14, colour, marker)
    fit_axis(ax, [mean for _, mean in means], [value for values in found for value in values.values()])
    low, high = ax.get_xlim()
    ax.set_xlim(max(0.0, low), min(100.5, high))
    ax.set_xlabel(f"test {report.comparison.metric.word}, %")
    return figure


def gains(report: Report) -> Figure | None:
    """Draw each block's paired difference to the baseline, seed by seed, with its interval."""
    rows = [row for row in report.rows if row.difference]
    if not rows:
        return None
    figure, ax = row_axes([row.arm.label for row in rows])
    looks = dresses(report)
    ax.axvline(0, color=INK, linewidth=1, zorder=0)
    found = [row.difference for row in rows if row.difference]
    for place, (row, difference) in enumerate(zip(rows, found, strict=True)):
        colour, marker = looks[row.arm.label]
        for value in difference.values:
            ax.plot(100 * value, place + 0.2, "o", color=colour, markersize=4.5, alpha=0.75, markeredgewidth=0)
        draw_interval(ax, difference.interval, place - 0.14, colour, marker)
    fit_axis(ax, [item.interval for item in found], [0.0, *(value for item in found for value in item.values)])
    ax.set_xlabel(f"points against {shorten(report.comparison.baseline)}")
    return figure


def latency_front(report: Report) -> Figure | None:
    """Draw the score against measured latency."""
    costs = {row.arm.label: row.cost for row in report.rows}
    ends = {
        label: (cost.latency_ratio, cost.latency_ratio_low, cost.latency_ratio_high) for label, cost in costs.items()
    }
    return _front(report, ends, "latency, times the baseline")


def training_front(report: Report) -> Figure | None:
    """Draw the score against the measured time of a training step."""
    costs = {row.arm.label: row.cost for row in report.rows}
    ends = {label: (cost.train_ratio, cost.train_ratio_low, cost.train_ratio_high) for label, cost in costs.items()}
    return _front(report, ends, "time of a training step, times the baseline")


def _front(report: Report, costs: Mapping[str, tuple[float, float, float]], name: str) -> Figure | None:
    """Draw the score against a cost with the intervals of both, and the steps of the means that none beats."""
    rows = [(row.arm.label, row.score, costs[row.arm.label]) for row in report.rows if row.score]
    rows = [row for row in rows if math.isfinite(row[2][0])]
    if len(rows) < 2:
        return None
    figure, ax = axes(HEIGHT)
    looks, front, best = dresses(report), [], -math.inf
    for _, score, cost in sorted(rows, key=lambda row: (row[2][0], -row[1].mean)):
        if score.mean > best:
            best = score.mean
            front.append((cost[0], 100 * score.mean))
    ax.plot(
        *zip(*front, strict=True), drawstyle="steps-post", color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1
    )
    for label, score, cost in rows:
        colour, marker = looks[label]
        (x, left, right), y = cost, 100 * score.mean
        ax.plot([left, right], [y, y], color=colour, linewidth=2.2, alpha=0.55)
        ax.plot([x, x], [100 * score.low, 100 * score.high], color=colour, linewidth=2.2, alpha=0.55)
        ax.plot(
            x, y, marker, color=colour, markersize=8, markeredgecolor=PAPER, markeredgewidth=0.7, label=shorten(label)
        )
    values = [value for label, _, _ in rows for value in report.comparison.scores(label).values()]
    fit_axis(ax, [score for _, score, _ in rows], values, axis="y")
    ax.margins(x=0.12)
    ax.grid(visible=True)
    ax.set_xlabel(name)
    ax.set_ylabel(f"test {report.comparison.metric.word}, %")
    ax.tick_params(labelcolor=MUTED, length=0)
    add_legend(figure, ax)
    return figure


def curves(report: Report) -> Figure | None:
    """Draw the validation score over the epochs: the mean of each arm thick, every seed thin."""
    figure, ax = axes(HEIGHT)
    looks, drawn = dresses(report), False
    for row in report.rows:
        colour, marker = looks[row.arm.label]
        lines = [dict(cell.curve) for cell in report.comparison.of(row.arm.label) if cell.curve]
        if not lines:
            continue
        drawn = True
        for line in lines:
            ax.plot(list(line), [100 * value for value in line.values()], color=colour, linewidth=0.7, alpha=0.4)
        shared = sorted(set.intersection(*(set(line) for line in lines)))
        means = [100 * math.fsum(line[epoch] for line in lines) / len(lines) for epoch in shared]
        every = max(1, len(shared) // 6)
        label = shorten(row.arm.label)
        ax.plot(shared, means, color=colour, linewidth=2, marker=marker, markevery=every, markersize=5, label=label)
    if not drawn:
        return None
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=True, axis="y")
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"validation {report.comparison.metric.word}, %")
    ax.tick_params(labelcolor=MUTED, length=0)
    add_legend(figure, ax)
    return figure


def per_class(report: Report) -> Figure | None:
    """Draw each class's difference to the baseline: every seed a dot, their mean a marker."""
    found = per_class_differences(report)
    blocks = [row for row in report.rows if row.arm.label in found]
    if not blocks:
        return None
    names, total = shown_classes(found), len({name for classes in found.values() for name in classes})
    figure, ax = row_axes(names, height=max(0.21, 0.12 * len(blocks) + 0.08))
    if total > len(names):
        ax.set_title(f"the {len(names)} of {total} that differ most", fontsize=9, color=MUTED, loc="left")
    looks = dresses(report)
    ax.axvline(0, color=INK, linewidth=1, zorder=0)
    step = 0.72 / len(blocks)
    for index, row in enumerate(blocks):
        colour, marker = looks[row.arm.label]
        for place, name in enumerate(names):
            values = [100 * value for value in found[row.arm.label].get(name, [])]
            height = place + (index - (len(blocks) - 1) / 2) * step
            ax.plot(values, [height] * len(values), "o", color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
            if values:
                mean = math.fsum(values) / len(values)
                ax.plot(mean, height, marker, color=colour, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.6)
    ax.set_xlabel(f"points against {shorten(report.comparison.baseline)}")
    return figure


def per_class_differences(report: Report) -> dict[str, dict[str, list[float]]]:
    """Return block to class to its differences to the baseline, one a shared seed."""
    comparison = report.comparison
    base = {cell.seed: cell.per_class for cell in comparison.of(comparison.baseline)}
    found: dict[str, dict[str, list[float]]] = {}
    for arm in comparison.blocks:
        for cell in comparison.of(arm.label):
            reference = base.get(cell.seed, {})
            for name, value in cell.per_class.items():
                if name in reference and math.isfinite(value - reference[name]):
                    found.setdefault(arm.label, {}).setdefault(name, []).append(value - reference[name])
    return found


def shown_classes(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return the classes in their order, or those with the largest mean differences where there are many."""
    names = list(dict.fromkeys(name for classes in found.values() for name in classes))
    if len(names) <= CLASSES_SHOWN:
        return names
    means = {
        name: max(abs(math.fsum(classes[name]) / len(classes[name])) for classes in found.values() if name in classes)
        for name in names
    }
    largest = set(sorted(names, key=lambda name: -means[name])[:CLASSES_SHOWN])
    return [name for name in names if name in largest]


_PLOTS: tuple[tuple[str, str, str, Callable[[Report], Figure | None]], ...] = (
    (
        "scores",
        "{Score}",
        "A dot is a seed, a thin line joins the arms of one seed; the marker is the mean, the bar its 95 % t interval.",
        scores,
    ),
    (
        "gains",
        "Difference to the baseline",
        "Block minus baseline on the same seed. A bar that crosses the line leaves open which of the two is better.",
        gains,
    ),
    (
        "latency",
        "{Score} against latency",
        "Up is better, left is faster. Bars are the intervals of both; the dashed steps join the means nobody beats.",
        latency_front,
    ),
    (
        "curves",
        "Learning curves",
        "{Score} on the validation pictures: thick is the mean over seeds, thin is each seed.",
        curves,
    ),
    (
        "training",
        "{Score} against training time",
        "The same for a training step: forward and backward of one batch.",
        training_front,
    ),
    (
        "per_class",
        "Each class",
        "Difference to the baseline: a small dot is a seed, the marker their mean.",
        per_class,
    ),
)
