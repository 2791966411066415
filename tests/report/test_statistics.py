import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from visattn.report.statistics import (
    differences,
    effect_size,
    holm,
    mean_interval,
    seeds_needed,
    sign_flip,
    smallest_p,
    t_test,
    undecidable,
)

RNG = np.random.default_rng(3)
SAMPLES = [RNG.normal(mean, 1.0, n).tolist() for n in (2, 3, 5, 8, 11) for mean in (0.0, 0.7, -2.0)]
TIED = [[0.1, 0.2, 0.3], [0.1, 0.1, -0.2, 0.3], [0.01] * 7, [0.0, 0.0, 0.5], [0.0, 0.0], [0.3]]


@pytest.mark.parametrize("values", SAMPLES)
def test_intervals_and_t_tests_are_scipys(values):
    interval = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    other = RNG.normal(0, 1, len(values))
    assert t_test(values) == pytest.approx(stats.ttest_rel(other + values, other).pvalue)


@pytest.mark.parametrize("values", SAMPLES + TIED)
def test_the_sign_flip_test_counts_every_pattern(values):
    # exact arithmetic on the decimals: an independent count, ties included
    exact = [Fraction(str(round(value, 9))) for value in values]
    rounded = [float(value) for value in exact]
    patterns = list(itertools.product((1, -1), repeat=len(exact)))
    reached = sum(abs(sum(s * v for s, v in zip(signs, exact, strict=True))) >= abs(sum(exact)) for signs in patterns)
    assert sign_flip(rounded) == pytest.approx(reached / len(patterns))


def test_beyond_twenty_seeds_patterns_are_drawn():
    values = np.random.default_rng(0).normal(0.3, 1.0, 24)
    normal = 2 * stats.norm.sf(abs(values.sum()) / math.sqrt((values**2).sum()))
    assert sign_flip(values.tolist()) == pytest.approx(normal, rel=0.1)
    assert sign_flip(values.tolist()) == sign_flip(values.tolist())


def test_the_t_interval_covers_95_of_100():
    draws = np.random.default_rng(1).normal(0.7, 0.01, (2000, 3))
    intervals = [mean_interval(row.tolist()) for row in draws]
    covered = np.mean([interval.low <= 0.7 <= interval.high for interval in intervals])
    assert 0.93 < covered < 0.97


def test_a_true_null_is_seldom_decided():
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(400):
        base = dict(enumerate(rng.normal(0.7, 0.01, 8)))
        blocks = {name: {seed: base[seed] + rng.normal(0, 0.005) for seed in base} for name in ("a", "b", "c")}
        wrong += any(found.verdict != "undecided" for found in differences(base, blocks).values())
    assert wrong / 400 < 0.08  # one family in twenty, and some luck


def test_no_spread_has_no_t_test_but_a_sign_flip_test():
    same = [0.8 - 0.7, 0.9 - 0.8, 0.4 - 0.3]  # three tenths with three rounding errors
    assert math.isnan(t_test(same))
    assert math.isnan(effect_size(same))
    assert sign_flip(same) == 0.25
    assert math.isnan(t_test([0.1]))
    assert math.isnan(mean_interval([0.1]).low)


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03], [0.5, 0.5], [0.2], [], [0.001, 0.02, 0.9, 0.013]])
def test_holm_rejects_what_its_definition_rejects(values):
    corrected = holm(values)
    for level in (0.01, 0.03, 0.05, 0.0501, 0.2):
        rejected, order = set(), sorted(range(len(values)), key=values.__getitem__)
        for rank, index in enumerate(order):
            if values[index] > level / (len(values) - rank):
                break
            rejected.add(index)
        assert rejected == {index for index, p in enumerate(corrected) if p <= level}


@pytest.mark.parametrize("seeds", range(1, 12))
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_what_seeds_cannot_reach_is_said(seeds, blocks):
    assert smallest_p(seeds) == sign_flip(np.arange(1.0, seeds + 1).tolist())
    assert (undecidable(seeds, blocks) is None) == (seeds >= seeds_needed(blocks))


def test_few_seeds_never_decide_whatever_the_t_test_says():
    base = {0: 0.70, 1: 0.71, 2: 0.72}
    found = differences(base, {"cbam": {0: 0.80, 1: 0.8101, 2: 0.8202}})["cbam"]
    assert found.t_p < 1e-4
    assert found.verdict == "undecided"
    assert found.reason == "3 seeds cannot decide: the smallest p a sign-flip test can reach is 0.25"


@pytest.mark.parametrize(("shift", "word"), [(0.02, "better"), (-0.02, "worse"), (0.0, "undecided")])
def test_eight_seeds_decide_about_two_blocks(shift, word):
    noise = np.array([1, -2, 3, -1, 2, -3, 1, -1]) / 1000
    base = dict(enumerate(0.7 + noise))
    found = differences(base, {"a": dict(enumerate(0.7 + shift - noise)), "b": base})
    assert found["a"].verdict == word
    assert found["b"].verdict == "undecided"
    assert found["a"].holm_p >= found["a"].flip_p


def test_six_seeds_lose_to_holm():
    base = dict.fromkeys(range(6), 0.7)
    gain = {seed: 0.75 + seed / 1000 for seed in base}
    assert differences(base, {"a": gain})["a"].verdict == "better"
    found = differences(base, {"a": gain, "b": {}})  # a block that has not run yet still counts
    assert found["a"].verdict == "undecided"
    assert "6 seeds cannot decide about 2 blocks" in found["a"].reason
    assert found["b"] is None


def test_only_shared_seeds_are_compared():
    found = differences({0: 0.5, 1: 0.6, 2: 0.7}, {"a": {1: 0.65, 2: 0.72, 9: 0.1}})["a"]
    assert found.seeds == (1, 2)
    assert found.values == pytest.approx((0.05, 0.02))
