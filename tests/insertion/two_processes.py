"""What two processes do with an attended host; ``test_processes.py`` starts it and reads its JSON."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from life import FEW, IMAGES, Row
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import visattn
from visattn.attention._contract import AbstractAttention
from visattn.insertion.wrapper import Attended

Training: TypeAlias = tuple[nn.Module, torch.optim.Optimizer]
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def optimiser(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(visattn.param_groups(model, lr=1e-3, weight_decay=0.05))


def train(model: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor) -> None:
    # eval mode: a rank's batch norm would take statistics of its own half
    model.eval()
    for _ in range(2):
        optimiser.zero_grad()
        model(images).square().mean().backward()
        optimiser.step()


def alone(row: Row) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return what one process reaches on the whole batch."""
    model = row.attended().double()  # where rounding hides nothing
    own = optimiser(model)
    train(model, own, IMAGES.double())
    return model, own


def half() -> torch.Tensor:
    return IMAGES.double()[dist.get_rank() :: 2]


def gap(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert list(a) == list(b), "other keys"
    gaps = [(a[key].double() - b[key].double()).abs().max() / max(1.0, b[key].abs().max().item()) for key in a]
    return max(gaps).item()


def ddp(row: Row, folder: Path) -> dict[str, Any]:
    del folder
    model = DistributedDataParallel(row.attended().double())
    train(model, optimiser(model.module), half())
    model.train()
    identity = row.bare().double().train()
    visattn.attend(identity, row.block, at="pool" if row.block == "additive" else "stages")
    start = DistributedDataParallel(identity)
    for _ in range(2):  # a parameter without a gradient makes the second pass raise
        start(half()).square().mean().backward()
    return {"gap": gap(model.module.state_dict(), alone(row)[0].state_dict())}


def sharded(row: Row) -> nn.Module:
    model = row.attended().double()  # where rounding hides nothing
    for module in model.modules():
        if isinstance(module, Attended):  # a unit of its own: its blocks and the host's module
            fully_shard(module)
    fully_shard(model)
    return model


def fsdp(row: Row, folder: Path) -> dict[str, Any]:
    model = sharded(row)
    own = optimiser(model)
    train(model, own, half())
    lone, lone_optimiser = alone(row)
    full, states = get_model_state_dict(model, options=FULL), get_optimizer_state_dict(model, own, options=FULL)
    found: dict[str, Any] = {
        "blocks": sum(isinstance(m, AbstractAttention) for m in model.modules()),
        "sharded": all(isinstance(p, DTensor) for p in model.parameters()),
    }
    if dist.get_rank() == 0:
        keys = list(lone.state_dict())
        found["gap"] = gap({key: full[key] for key in keys}, lone.state_dict())
        found["keys"] = sorted(full) == sorted(keys)
        wanted = get_optimizer_state_dict(lone, lone_optimiser, options=FULL)["state"]
        found["optimiser"] = max(gap(states["state"][key], wanted[key]) for key in wanted)
        found["optimiser keys"] = sorted(states["state"]) == sorted(wanted) == sorted(set(keys) & set(states["state"]))
    found["round trips"] = same((model, own), reread(row, folder, model, own), spread(row, full, states))
    return found


def reread(row: Row, folder: Path, model: nn.Module, own: torch.optim.Optimizer) -> Training:
    """Write a sharded checkpoint by both processes and read it into a fresh sharded model."""
    saved = {"model": get_model_state_dict(model), "optimiser": get_optimizer_state_dict(model, own)}
    dcp.save(saved, checkpoint_id=folder / str(row))
    fresh = sharded(row)
    fresh_optimiser = optimiser(fresh)
    read = {"model": get_model_state_dict(fresh), "optimiser": get_optimizer_state_dict(fresh, fresh_optimiser)}
    dcp.load(read, checkpoint_id=folder / str(row))
    set_model_state_dict(fresh, read["model"])
    set_optimizer_state_dict(fresh, fresh_optimiser, read["optimiser"])
    return fresh, fresh_optimiser


def spread(row: Row, full: dict[str, Any], states: dict[str, Any]) -> Training:
    """Load rank 0's full states into a fresh sharded model."""
    fresh = sharded(row)
    fresh_optimiser = optimiser(fresh)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    full, states = copy.deepcopy((full, states))  # on a CPU they may be the optimiser's own tensors
    set_model_state_dict(fresh, full, options=options)
    set_optimizer_state_dict(fresh, fresh_optimiser, states, options=options)
    return fresh, fresh_optimiser


def same(*trainings: Training) -> list[bool]:
    """Whether each training but the first is where the first is, bit for bit: now, and after two steps more."""
    points: list[list[list[torch.Tensor]]] = [[], []]
    for point in points:
        for model, own in trainings:
            point.append([local(x).clone() for x in model.state_dict().values()])
            train(model, own, half())
    now, later = points
    assert not equal(now[0], later[0]), "the steps did nothing"
    return [equal(now[0], now[i]) and equal(later[0], later[i]) for i in range(1, len(trainings))]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def local(x: torch.Tensor) -> torch.Tensor:
    return x.to_local() if isinstance(x, DTensor) else x


CHECKS: dict[str, Callable[[Row, Path], dict[str, Any]]] = {"ddp": ddp, "fsdp": fsdp}


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = {name: {str(row): check(row, folder) for row in FEW} for name, check in CHECKS.items()}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
