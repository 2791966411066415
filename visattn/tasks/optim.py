"""timm's optimisers and schedules, for any network with blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from visattn.models.parameters import param_groups
from visattn.types import UsageError

OPTIMIZER = {"opt": "adamw", "lr": 1e-3, "weight_decay": 0.05}
SCHEDULE = {"sched": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-5, "min_lr": 1e-6}


def optimise(
    network: nn.Module,
    *,
    epochs: int,
    updates: int,
    optimizer: Mapping[str, Any],
    schedule: Mapping[str, Any],
    layer_decay: float | None = None,
    attention_lr: float = 1.0,
) -> Any:
    """Return what ``configure_optimizers`` returns: an optimiser, and a schedule that steps once an update.

    Args:
        network: what is trained.
        epochs: of the run.
        updates: optimiser steps an epoch.
        optimizer: keywords of timm's ``create_optimizer_v2``.
        schedule: keywords of timm's ``create_scheduler_v2``, and ``warmup_updates`` for a warmup of so many
            steps in place of ``warmup_epochs``.
        layer_decay: multiplies the learning rate for each layer further from the head.
        attention_lr: multiplies the learning rate of inserted blocks.

    Raises:
        UsageError: an unknown optimiser, schedule or keyword.
    """
    keywords = dict(optimizer)
    groups = param_groups(
        network, weight_decay=keywords.pop("weight_decay", 0.0), new_lr_mult=attention_lr, layer_decay=layer_decay
    )
    plan = dict(schedule)
    warmup = plan.pop("warmup_updates", None)
    try:
        built = create_optimizer_v2(groups, **keywords)
        if warmup is not None:  # timm rounds nothing here: a part of an epoch is a number of updates
            plan["warmup_epochs"] = int(warmup) / updates
        scheduler, _ = create_scheduler_v2(
            built, num_epochs=epochs, step_on_epochs=False, updates_per_epoch=updates, **plan
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"optimizer {dict(optimizer)} with schedule {dict(schedule)}: {error}") from error
    if scheduler is None:
        return built
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
