"""What a few seeds can tell: t intervals, paired tests, Holm's correction, a verdict that never says more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Verdict = Literal["better", "worse", "undecided"]

CONFIDENCE = 0.95
LEVEL = 0.05
EXACT_UP_TO = 20  # seeds whose 2^n sign patterns are all tried


class Interval(NamedTuple):
    """A mean over seeds with its 95 % t interval; one seed has none (both ends are nan)."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def half(self) -> float:
        """Return half the interval's width, nan for one seed."""
        return (self.high - self.low) / 2


class Difference(NamedTuple):
    """A block against the baseline, seed by seed, in the unit of the scores."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]  # block minus baseline, per seed
    interval: Interval
    effect: float  # Cohen's d_z: mean over standard deviation of the differences; nan where that is 0
    t_p: float  # paired t-test; nan for one seed or without any spread
    flip_p: float  # exact sign-flip test
    holm_p: float  # flip_p after Holm's correction over the blocks
    verdict: Verdict
    reason: str


def mean_interval(values: Sequence[float]) -> Interval:
    """Return mean and 95 % t interval of ``values``, one a seed.

    Example:
        >>> mean_interval([0.5, 0.7]).mean
        0.6
    """
    array = np.asarray(values, dtype=np.float64)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * array.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def effect_size(differences: Sequence[float]) -> float:
    """Return Cohen's d_z, the mean difference in its own standard deviations; nan without any spread.

    Example:
        >>> round(effect_size([1.0, 2.0, 3.0]), 6)
        2.0
    """
    array = np.asarray(differences, dtype=np.float64)
    if len(array) < 2:
        return math.nan
    spread = float(array.std(ddof=1))
    # equal differences leave rounding errors of 1e-17 behind, which are no spread
    return float(array.mean() / spread) if spread > 1e-12 * float(np.abs(array).max()) else math.nan


def t_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired t-test; nan for one seed or without any spread.

    Example:
        >>> round(t_test([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    effect, count = effect_size(differences), len(differences)
    return math.nan if math.isnan(effect) else float(2 * stats.t.sf(abs(effect) * math.sqrt(count), count - 1))


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p of the sign-flip test: how many sign patterns reach the sum that was measured.

    Exact up to 20 seeds; beyond, 2^20 patterns are drawn with a fixed seed.

    Example:
        >>> sign_flip([0.1, 0.2, 0.3])
        0.25
    """
    array = np.asarray(differences, dtype=np.float64)
    reached = abs(float(array.sum())) - 1e-9 * float(np.abs(array).sum())  # ties count, whatever their rounding
    if len(array) > EXACT_UP_TO:
        drawn = _drawn_sums(array, 1 << EXACT_UP_TO)
        return float((np.count_nonzero(np.abs(drawn) >= reached) + 1) / (len(drawn) + 1))
    sums = np.zeros(1)
    for value in array:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= reached))


def _drawn_sums(array: np.ndarray, count: int) -> np.ndarray:
    generator, sums = np.random.default_rng(0), np.zeros(count)
    for value in array:  # seed by seed: a matrix of all signs would not fit into memory
        sums += np.where(generator.random(count) < 0.5, value, -value)
    return sums


def smallest_p(seeds: int) -> float:
    """Return the smallest p that a two-sided sign-flip test over ``seeds`` seeds can reach.

    Example:
        >>> smallest_p(3), smallest_p(6)
        (0.25, 0.03125)
    """
    return min(1.0, 2.0 / 2.0**seeds)


def seeds_needed(blocks: int) -> int:
    """Return how many seeds can decide about ``blocks`` blocks after Holm's correction.

    Example:
        >>> seeds_needed(1), seeds_needed(2)
        (6, 7)
    """
    return math.ceil(math.log2(2 * max(blocks, 1) / LEVEL))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return ``p_values`` after Holm's step-down correction, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def differences(
    baseline: Mapping[int, float], blocks: Mapping[str, Mapping[int, float]]
) -> dict[str, Difference | None]:
    """Compare each block with the baseline over the seeds that both have finished.

    A block that shares no seed with the baseline gives None, and still counts in Holm's correction:
    what is corrected for is the question that was asked, not the part of it that has finished.

    Args:
        baseline: seed to score.
        blocks: label to (seed to score).

    Example:
        >>> differences({0: 0.5, 1: 0.5, 2: 0.6}, {"eca": {0: 0.6, 1: 0.7, 2: 0.7}})["eca"].verdict
        'undecided'
    """
    pairs = {label: sorted(baseline.keys() & scores.keys()) for label, scores in blocks.items()}
    values = {label: [blocks[label][seed] - baseline[seed] for seed in seeds] for label, seeds in pairs.items()}
    flips = {label: sign_flip(found) if found else 1.0 for label, found in values.items()}
    corrected = dict(zip(flips, holm(list(flips.values())), strict=True))
    return {
        label: _difference(pairs[label], found, flips[label], corrected[label], len(blocks)) if found else None
        for label, found in values.items()
    }


def _difference(seeds: list[int], values: list[float], flip_p: float, holm_p: float, blocks: int) -> Difference:
    interval = mean_interval(values)
    verdict: Verdict = "undecided"
    if (limit := undecidable(len(seeds), blocks)) is not None:
        reason = limit
    elif holm_p > LEVEL:
        reason = f"{len(seeds)} seeds do not tell it from the baseline: sign-flip p {holm_p:.2g} after Holm"
    else:
        verdict = "better" if interval.mean > 0 else "worse"
        reason = f"sign-flip p {holm_p:.2g} after Holm, {len(seeds)} seeds"
    return Difference(
        tuple(seeds),
        tuple(values),
        interval,
        effect_size(values),
        t_test(values),
        flip_p,
        holm_p,
        verdict,
        reason,
    )


def undecidable(seeds: int, blocks: int) -> str | None:
    """Say why ``seeds`` seeds cannot decide about ``blocks`` blocks, or return None where they can.

    Example:
        >>> undecidable(3, 2)
        '3 seeds cannot decide: the smallest p a sign-flip test can reach is 0.25'
        >>> undecidable(8, 2) is None
        True
    """
    smallest = smallest_p(seeds)
    if smallest * blocks <= LEVEL:
        return None
    text = f"{seeds} seed{'' if seeds == 1 else 's'} cannot decide"
    reach = f"the smallest p a sign-flip test can reach is {smallest:.2g}"
    if smallest > LEVEL:
        return f"{text}: {reach}"
    return f"{text} about {blocks} blocks: {reach}, and {smallest * blocks:.2g} after Holm's correction"
