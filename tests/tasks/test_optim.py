"""Rates over a run, as a known schedule has them."""

from __future__ import annotations

import pytest
from torch import nn

from visattn.tasks.optim import optimise
from visattn.types import UsageError

STEPS = {"sched": "multistep", "decay_milestones": [8, 11], "decay_rate": 0.1, "warmup_updates": 50, "warmup_lr": 2e-5}
SGD = {"opt": "momentum", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4}


def test_the_1x_schedule_of_coco() -> None:
    built = optimise(nn.Conv2d(3, 8, 3), epochs=12, updates=100, optimizer=SGD, schedule={"warmup_epochs": 1, **STEPS})
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert not optimizer.param_groups[0]["nesterov"]
    rates = []
    for update in range(1200):
        scheduler.step_update(num_updates=update)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(2e-5)
    assert rates[25] == pytest.approx(0.01, rel=0.01)
    assert rates[50] == rates[798] == pytest.approx(0.02)
    assert rates[800] == rates[1098] == pytest.approx(0.002)
    assert rates[1100] == rates[-1] == pytest.approx(0.0002)


@pytest.mark.parametrize("optimizer", [{**SGD, "opt": "sgdd"}, {**SGD, "momentun": 0.9}])
def test_unknown_words(optimizer: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="optimizer"):
        optimise(nn.Conv2d(3, 8, 3), epochs=1, updates=1, optimizer=optimizer, schedule={"sched": "cosine"})


def test_an_unknown_schedule() -> None:
    with pytest.raises(UsageError, match="schedule"):
        optimise(nn.Conv2d(3, 8, 3), epochs=1, updates=1, optimizer=SGD, schedule={"sched": "cosine", "warmup": 3})
