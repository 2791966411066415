"""One hash from integers to an integer: the only source of chance in data, alike on every machine and version."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def _scramble(word: Any) -> Any:
    # splitmix64's finaliser (Steele et al. 2014), for a Python integer, which the mask cuts to 64 bits, or an
    # array of uint64, which wraps by itself
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)


def stable_hash(*parts: int) -> int:
    """Return 64 well-mixed bits that depend on ``parts`` and their order alone.

    Example:
        >>> stable_hash(0, 1) == stable_hash(0, 1), stable_hash(0, 1) == stable_hash(1, 0)
        (True, False)
    """
    word = 0
    for part in parts:
        word = _scramble((word + part + 0x9E3779B97F4A7C15) & _MASK)
    return word


def stable_order(length: int, *parts: int) -> NDArray[np.int64]:
    """Return a permutation of ``range(length)`` that depends on ``parts`` alone.

    Sorted hashes instead of numpy's ``permutation``, whose stream may change with its version.

    Example:
        >>> sorted(stable_order(4, 0, 1).tolist())
        [0, 1, 2, 3]
    """
    start = np.uint64(stable_hash(*parts))
    places = np.arange(length, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    return np.argsort(_scramble(places + start), kind="stable")
