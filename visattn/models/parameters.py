"""What trains how fast: parameter groups of a host with blocks."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from visattn.attention._contract import AbstractAttention


def param_groups(
    model: nn.Module,
    *,
    weight_decay: float = 0.0,
    new_lr_mult: float = 1.0,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Return optimiser groups: vectors and what a block exempts (its strength) without decay, blocks at their own rate.

    Blocks are told from the host by module, never by name: wrappers show in the names.

    Args:
        model: a host, attended or not.
        weight_decay: for matrices and convolutions.
        new_lr_mult: multiplies the learning rate of inserted blocks.
        layer_decay: multiplies the rate once more for each layer further from the head (timm's rule).

    Returns:
        Groups with ``params``, ``weight_decay`` and ``lr_scale``, which timm's schedules obey.

    Example:
        >>> groups = param_groups(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(3, 0.0), (1, 0.1)]
    """
    blocks = [m for m in model.modules() if isinstance(m, AbstractAttention)]
    new = {id(p) for block in blocks for p in block.parameters()}
    undecayed = {id(getattr(block, name)) for block in blocks for name in block.undecayed}
    fixed = {name for name, p in model.named_parameters() if id(p) in undecayed}
    if layer_decay is None:
        groups = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=fixed)
    else:
        groups = param_groups_layer_decay(model, weight_decay, no_weight_decay_list=fixed, layer_decay=layer_decay)
    split = []
    for group in groups:
        scale = group.get("lr_scale", 1.0)
        for inserted, lr_scale in ((False, scale), (True, scale * new_lr_mult)):
            params = [p for p in group["params"] if (id(p) in new) == inserted]
            if params:
                split.append({"params": params, "weight_decay": group["weight_decay"], "lr_scale": lr_scale})
    return split
