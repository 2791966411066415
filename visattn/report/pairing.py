"""The proof of pairing: per seed, did every arm start from the same host weights and see the same order?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from visattn.report.results import Cell, Comparison

_Reader: TypeAlias = Callable[[Cell], str]


class Pairing(NamedTuple):
    """One thing that the arms of a seed must share, over all seeds."""

    what: str
    equal: bool | None  # None where no seed has two cells that recorded it
    text: str


def pairings(comparison: Comparison) -> tuple[Pairing, ...]:
    """Return what the finished cells prove about host weights, data order and length of training."""
    return (
        _pairing(comparison, "host weights", lambda cell: cell.host_weights),
        _pairing(comparison, "data order", lambda cell: cell.order),
        _pairing(comparison, "epochs", lambda cell: "" if cell.epochs is None else str(cell.epochs)),
    )


def _pairing(comparison: Comparison, what: str, read: _Reader) -> Pairing:
    checked, silent, faults = [], [], []
    for seed in comparison.seeds:
        cells = [comparison.cells[arm.label, seed] for arm in comparison.arms if (arm.label, seed) in comparison.cells]
        found = {cell.arm: read(cell) for cell in cells}
        silent += [f"{arm} seed {seed}" for arm, value in found.items() if not value]
        known = {arm: value for arm, value in found.items() if value}
        if len(known) > 1:
            checked.append(seed)
            if len(set(known.values())) > 1:
                faults.append(f"seed {seed} ({', '.join(f'{arm} {value[:10]}' for arm, value in known.items())})")
    note = f"; not recorded: {', '.join(silent)}" if silent else ""
    if not checked:
        return Pairing(what, None, f"not checked: no seed has two arms that recorded it{note}")
    if faults:
        return Pairing(what, False, f"NOT equal: {'; '.join(faults)}{note}")
    seeds = f"seed{'' if len(checked) == 1 else 's'} {', '.join(map(str, checked))}"
    return Pairing(what, True, f"equal across all arms ({seeds}){note}")
