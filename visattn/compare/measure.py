"""What each arm costs, measured side by side on networks built as the cells built them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from visattn.bench.cost import measure_cost
from visattn.compare.plan import Cell, Plan
from visattn.tasks.classification import ClassificationTask

ROUNDS = 15
BATCH = 16


def measure_arms(plan: Plan, *, image_size: int, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Measure every arm that has a finished cell and write ``cost.json``."""
    done = {cell.arm.label: cell for cell in reversed(plan.cells) if cell.state == "finished"}
    builders = {arm.label: partial(_network, done[arm.label]) for arm in plan.arms if arm.label in done}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cost = measure_cost(builders, image_size=image_size, batch=BATCH, device=device, rounds=ROUNDS, progress=progress)
    write_json(plan.out / "cost.json", cost)
    return cost


def _network(cell: Cell) -> nn.Module:
    config = yaml.safe_load((cell.folder / "config.yaml").read_text())["model"]["init_args"]
    known = inspect.signature(ClassificationTask).parameters
    settings = {key: value for key, value in config.items() if key in known}
    names = json.loads((cell.folder / "pairing.json").read_text())["data"]["classes"]
    task = ClassificationTask(
        **{**settings, "class_names": names, "pretrained": False, "weights": None, "compile": False}
    )
    return task.network


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)
