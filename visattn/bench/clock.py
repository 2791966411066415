"""Timing in turns: what a slow minute cannot change is the median of the rounds' ratios.

Absolute times move with the machine's mood. Calls are timed A B C A B C, and each round gives one ratio
to the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch

from visattn.types import UsageError

SHORTEST = 0.02  # seconds of one timing: well above the clock's and the scheduler's grain
WARM_UP = 3
RESAMPLES = 2000


def interleaved(
    calls: Mapping[str, Callable[[], None]], rounds: int, place: torch.device, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Time the calls in turns; return seconds of one call, a value a round."""
    repeats = {label: _repeats(call, place) for label, call in calls.items()}
    times: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(rounds):
        for label, call in calls.items():
            times[label].append(_seconds(call, repeats[label], place))
        tick()
    return times


def _repeats(call: Callable[[], None], place: torch.device) -> int:
    for _ in range(WARM_UP):
        call()
    once = min(_seconds(call, 1, place) for _ in range(2))
    return max(1, ceil(SHORTEST / once))


def _seconds(call: Callable[[], None], repeats: int, place: torch.device) -> float:
    _synchronise(place)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _synchronise(place)
    return (time.perf_counter() - start) / repeats


def _synchronise(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def summaries(name: str, times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return each label's median milliseconds and ratio to the first label, with the bootstrap's 95 % interval."""
    first = np.asarray(next(iter(times.values())))
    # the same resampled rounds for every arm, and the same interval for the same times
    rows = np.random.default_rng(0).integers(len(first), size=(RESAMPLES, len(first)))
    found = {}
    for label, seconds in times.items():
        ratios = np.asarray(seconds) / first
        low, high = np.quantile(np.median(ratios[rows], axis=1), (0.025, 0.975))
        found[label] = {
            f"{name}_ms": float(np.median(seconds)) * 1000,
            f"{name}_ratio": float(np.median(ratios)),
            f"{name}_ratio_low": float(low),
            f"{name}_ratio_high": float(high),
        }
    return found


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Give torch ``count`` threads for a while; its present number stays without one."""
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise UsageError(f"threads must be at least 1, got {count}")
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
