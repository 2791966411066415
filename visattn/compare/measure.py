"""What each arm costs, measured side by side on the networks that the cells trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from visattn.bench.cost import measure_cost
from visattn.compare.plan import Cell, Plan
from visattn.tasks.restore import restore
from visattn.tasks.tables import write_json

ROUNDS = 15
BATCH = 16  # at most; a task whose pictures are large says less


def measure_arms(plan: Plan, *, image_size: int, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Measure every arm that has a finished cell and write ``cost.json``."""
    done = {cell.arm.label: cell for cell in reversed(plan.cells) if cell.state == "finished"}
    builders = {arm.label: partial(_network, done[arm.label]) for arm in plan.arms if arm.label in done}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = min(BATCH, restore(next(iter(done.values())).folder).task.batch)
    cost = measure_cost(builders, image_size=image_size, batch=batch, device=device, rounds=ROUNDS, progress=progress)
    write_json(plan.out / "cost.json", cost)
    return cost


def _network(cell: Cell) -> nn.Module:
    return restore(cell.folder).task.costed()
