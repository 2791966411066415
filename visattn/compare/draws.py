"""What the choice of the test pictures leaves open: differences in AP over draws of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visattn.compare.plan import BASELINE, Cell, Plan
from visattn.tasks.matches import Matches, average_precision, load_matches
from visattn.tasks.tables import write_json

DRAWS = 1000
ENDS = (2.5, 97.5)


def draw_pictures(plan: Plan, *, draws: int = DRAWS) -> dict[str, Any] | None:
    """Draw the test pictures anew, with replacement, and write ``pictures.json``: an interval a block.

    A draw is the same for all cells. Detections and objects are matched once, at each cell's test; a draw
    only weighs them. A block's value is its AP minus the baseline's, a mean over the seeds that both have.

    Args:
        plan: the comparison.
        draws: how many.

    Returns:
        What was written; None where no test keeps matches, or no seed has a pair.
    """
    finished = [cell for cell in plan.cells if cell.state == "finished" and (cell.folder / "matches.npz").is_file()]
    matches = {(cell.arm.label, cell.seed): _matches(cell) for cell in finished}
    if not matches:
        return None
    places = next(iter(matches.values())).pictures
    same = {key: one for key, one in matches.items() if np.array_equal(one.pictures, places)}
    weights = np.random.default_rng(0).multinomial(len(places), np.full(len(places), 1 / len(places)), size=draws)
    drawn = {key: np.array([average_precision(one, weight) for weight in weights]) for key, one in same.items()}
    arms = {arm.label: _interval(drawn, arm.label, plan.seeds) for arm in plan.arms if arm.label != BASELINE}
    page = {"pictures": len(places), "draws": draws, "arms": {label: ends for label, ends in arms.items() if ends}}
    write_json(plan.out / "pictures.json", page)
    return page


def _matches(cell: Cell) -> Matches:
    return load_matches(cell.folder / "matches.npz")


def _interval(
    drawn: dict[tuple[str, int], NDArray[np.float64]], label: str, seeds: tuple[int, ...]
) -> dict[str, Any] | None:
    shared = [seed for seed in seeds if (label, seed) in drawn and (BASELINE, seed) in drawn]
    if not shared:
        return None
    values = np.mean([drawn[label, seed] - drawn[BASELINE, seed] for seed in shared], axis=0)
    low, high = np.nanpercentile(values, ENDS).tolist()  # a draw without any object has no AP
    return {"low": low, "high": high, "seeds": shared}
