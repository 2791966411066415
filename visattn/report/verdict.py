"""The verdict of a comparison in words, never more than the seeds carry."""

from __future__ import annotations

from typing import NamedTuple

from visattn.report.figures import points
from visattn.report.statistics import LEVEL, Difference, seeds_needed, smallest_p, undecidable
from visattn.report.table import Report


class Verdict(NamedTuple):
    """What the comparison says."""

    sentence: str
    details: tuple[str, ...]
    decided: bool  # at least one block is better or worse


def verdict(report: Report) -> Verdict:
    """Return the verdict in one sentence, and what explains it."""
    if report.paired:
        return _verdict(report)
    known = [(row.arm.label, row.difference) for row in report.rows if row.difference]
    sentence = "Not a paired comparison: the arms of a seed differ in more than attention."
    return Verdict(sentence, (_measured(known),) if known else (), decided=False)


def _verdict(report: Report) -> Verdict:
    baseline, blocks = report.comparison.baseline, [row for row in report.rows if not row.is_baseline]
    if not blocks:
        return Verdict("Nothing to compare: the baseline has run alone.", (), decided=False)
    if not report.comparison.of(baseline):
        text = f"Nothing can be said yet: the baseline '{baseline}' has no finished cell."
        return Verdict(text, (), decided=False)
    known = [(row.arm.label, row.difference) for row in blocks if row.difference]
    if not known:
        text = "Nothing can be said yet: no block shares a finished seed with the baseline."
        return Verdict(text, (), decided=False)
    waiting = [row.arm.label for row in blocks if row.difference is None]
    tail = [f"No seed shared with the baseline has finished yet for {_listed(waiting)}."] if waiting else []
    most = max(len(difference.seeds) for _, difference in known)
    if (limit := undecidable(most, len(blocks))) is None:
        return _decided(known, baseline, tail)
    plural = f"{len(blocks)} blocks" if len(blocks) > 1 else "one block"
    tail.append(f"To decide about {plural} at p ≤ {LEVEL:g} takes at least {seeds_needed(len(blocks))} seeds.")
    return Verdict(f"{limit}.", (_measured(known), *tail), decided=False)


def _decided(known: list[tuple[str, Difference]], baseline: str, tail: list[str]) -> Verdict:
    decided = [item for item in known if item[1].verdict != "undecided"]
    undecided = [item for item in known if item[1].verdict == "undecided"]
    parts = []
    for word in ("better", "worse"):
        group = [(label, found.interval.mean) for label, found in decided if found.verdict == word]
        if len(group) == 1:
            label, mean = group[0]
            parts.append(f"{label} is {word} than {baseline} by {points(abs(mean), signed=False)} points")
        elif group:
            parts.append(f"{_listed([label for label, _ in group])} are {word} than {baseline}")
    if undecided:
        parts.append(f"{_listed([label for label, _ in undecided])} {'is' if len(undecided) == 1 else 'are'} undecided")
        tail = [_measured(undecided), *tail]
    if decided:
        tail = [f"Measured: {_shown(decided)}.", *tail]
    return Verdict(f"{'; '.join(parts)}.", tuple(tail), decided=bool(decided))


def _measured(known: list[tuple[str, Difference]]) -> str:
    return f"Measured, not decided: {_shown(known)}."


def _shown(known: list[tuple[str, Difference]]) -> str:
    return _listed(
        [
            f"{label} {points(found.interval.mean)} points"
            + (f" ({points(found.interval.low)} to {points(found.interval.high)})" if found.interval.seeds > 1 else "")
            for label, found in known
        ]
    )


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def method(report: Report) -> str:
    """Say what the tests are and what this many seeds can reach."""
    blocks = f"{len(report.comparison.blocks)} block{'' if len(report.comparison.blocks) == 1 else 's'}"
    seeds = max((len(row.difference.seeds) for row in report.rows if row.difference), default=0)
    reach = f" With {seeds} seed{'' if seeds == 1 else 's'} the smallest p it can reach is {smallest_p(seeds):.2g}."
    return (
        "Intervals are 95 % t intervals over seeds. Differences are paired: block minus baseline on the same seed. "
        "The verdict rests on an exact two-sided sign-flip test, corrected by Holm over "
        f"{blocks} at {LEVEL:g}; the t-test stands beside it.{reach if seeds else ''} "
        "Effect is Cohen's d_z, the mean difference in its own standard deviations. "
        "The intervals hold the spread over seeds; they do not hold the choice of the test pictures."
        f"{_drawn(report)}"
    )


def _drawn(report: Report) -> str:
    draws = report.comparison.pictures
    if draws is None:
        return ""
    return (
        f" That is what the interval over pictures holds: the mean difference over {draws.draws:,} draws of "
        f"{draws.pictures:,} test pictures, the same for all cells, from one matching pass a cell."
    )
