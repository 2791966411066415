"""The facts of a report in one place: a row an arm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from visattn.report.attachments import ArmCost
from visattn.report.pairing import Pairing, pairings
from visattn.report.results import Arm, Comparison
from visattn.report.statistics import Difference, Interval, differences, mean_interval

NAN_COST = ArmCost(*[math.nan] * len(ArmCost._fields))


@dataclass(frozen=True, slots=True)
class Row:
    """What the report says about one arm. Scores are fractions; an absent figure is nan or None."""

    arm: Arm
    is_baseline: bool
    score: Interval | None
    seeds: tuple[int, ...]
    difference: Difference | None
    parameters: float
    parameters_ratio: float
    macs: float
    macs_ratio: float
    saved_ratio: float
    cost: ArmCost
    train_rate: float  # images a second, from the interleaved measurement of cost
    run_rate: float  # images a second, mean over the cells' own runs
    train_seconds: float  # mean over the cells


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison with its rows and the proof of its pairing."""

    comparison: Comparison
    rows: tuple[Row, ...]
    pairing: tuple[Pairing, ...]

    @property
    def paired(self) -> bool:
        """Return False where a recorded hash contradicts the pairing."""
        return all(proof.equal is not False for proof in self.pairing)


def build(comparison: Comparison) -> Report:
    """Work out every figure that the report shows."""
    scores = {arm.label: comparison.scores(arm.label) for arm in comparison.arms}
    found = differences(scores[comparison.baseline], {arm.label: scores[arm.label] for arm in comparison.blocks})
    base = _row(comparison, next(arm for arm in comparison.arms if arm.label == comparison.baseline), None, None)
    rows = tuple(
        base if arm.label == comparison.baseline else _row(comparison, arm, found[arm.label], base)
        for arm in comparison.arms
    )
    report = Report(comparison, rows, pairings(comparison))
    return report if report.paired else replace(report, rows=tuple(_unclaimed(row) for row in rows))


def _unclaimed(row: Row) -> Row:
    """Take the verdict back: arms that differ in more than attention say nothing about attention."""
    if row.difference is None:
        return row
    return replace(row, difference=row.difference._replace(verdict="undecided", reason="the cells are not paired"))


def _row(comparison: Comparison, arm: Arm, difference: Difference | None, base: Row | None) -> Row:
    cells, scores = comparison.of(arm.label), comparison.scores(arm.label)
    cost = comparison.cost.arms.get(arm.label, NAN_COST) if comparison.cost else NAN_COST
    trained = [float(cell.parameters) for cell in cells if cell.parameters is not None]
    parameters = cost.parameters if math.isfinite(cost.parameters) else _mean(trained)
    batch = comparison.cost.batch if comparison.cost else None
    return Row(
        arm=arm,
        is_baseline=base is None,
        score=mean_interval(list(scores.values())) if scores else None,
        seeds=tuple(scores),
        difference=difference,
        parameters=parameters,
        parameters_ratio=_ratio(parameters, base.parameters if base else parameters),
        macs=cost.macs,
        macs_ratio=_ratio(cost.macs, base.macs if base else cost.macs),
        saved_ratio=_ratio(cost.saved_bytes, base.cost.saved_bytes if base else cost.saved_bytes),
        cost=cost,
        train_rate=_ratio(1000.0 * (batch or math.nan), cost.train_ms),
        run_rate=_mean([cell.images_per_second for cell in cells]),
        train_seconds=_mean([cell.train_seconds for cell in cells]),
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference else math.nan
