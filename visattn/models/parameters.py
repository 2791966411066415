"""What trains, and how fast: parameter groups of a host with blocks, and a host frozen but for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from visattn.attention._contract import AbstractAttention
from visattn.insertion.state import head_of
from visattn.insertion.wrapper import site_name
from visattn.types import UsageError

NORMS = (nn.LayerNorm, nn.RMSNorm)  # those whose weights may have several axes; all others' are vectors
STATISTICS = ("running_mean", "running_var")  # timm's EvoNorm keeps one without being torch's batch norm


def param_groups(
    model: nn.Module,
    *,
    lr: float | None = None,
    weight_decay: float = 0.0,
    new_lr_mult: float = 1.0,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Return optimiser groups: each parameter that trains in one of them, inserted blocks at their own rate.

    Weight decay leaves alone vectors, biases, norms, what a block exempts (``undecayed``: its strength,
    GCT's beta) and what a timm host does (``no_weight_decay()``). All is told by module: names in
    ``named_parameters`` show the wrappers.

    Args:
        model: a host, attended or not.
        lr: the base rate. With it each group has its ``lr``, for any torch optimiser; without it a
            factor ``lr_scale``, which timm's schedules obey and nothing else does.
        weight_decay: for matrices and convolutions.
        new_lr_mult: multiplies the rate of blocks.
        layer_decay: multiplies the rate once more for each layer further from the head (timm's rule).

    Raises:
        UsageError: nothing trains, a negative number, or a layer decay for a host that is not timm's.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        >>> for group in param_groups(host, lr=0.1, weight_decay=0.05):
        ...     print(len(group["params"]), group["weight_decay"], group["lr"])
        1 0.05 0.1
        3 0.0 0.1
    """
    numbers = {"lr": lr, "weight_decay": weight_decay, "new_lr_mult": new_lr_mult, "layer_decay": layer_decay}
    for what, value in numbers.items():
        if value is not None and not value >= 0:  # NaN too
            raise UsageError(f"{what} must be at least 0, got {value}")
    new = {id(p) for block in _blocks(model) for p in block.parameters()}
    still = _undecayed(model)
    scales = {} if layer_decay is None else _layer_scales(model, layer_decay)
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for path, p in model.named_parameters():  # a tied parameter comes once
        if not p.requires_grad:
            continue
        scale = scales.get(path, 1.0) * (new_lr_mult if id(p) in new else 1.0)
        decay = 0.0 if id(p) in still else weight_decay
        rate = {"lr_scale": scale} if lr is None else {"lr": lr * scale}
        group = groups.setdefault((decay, scale, id(p) in new), {"params": [], "weight_decay": decay, **rate})
        group["params"].append(p)
    if not groups:
        raise UsageError(f"{type(model).__name__} has no parameter that trains; freeze less of it")
    return list(groups.values())


def freeze_host(model: nn.Module, *, head: bool | str = True) -> None:
    """Put ``model`` into training mode with its host frozen: only blocks, and the head, learn.

    Call it in place of ``model.train()``, which would wake the host's norms: those with running
    statistics stay in eval mode here, so the host computes what it was trained to. Norms in blocks and
    in the head learn. Dropout and stochastic depth act as in any training.

    Args:
        model: an attended host; without blocks the head alone learns, the baseline of this way to train.
        head: train the classifier too: timm's ``get_classifier()``, the last layer of ``fc``,
            ``classifier``, ``head`` or ``heads``, or the module of this name.

    Raises:
        UsageError: no such head, or nothing that could learn; nothing is changed then.

    Example:
        >>> from visattn.insertion.attend import attend
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))
        >>> _ = attend(host, "eca", at="1")
        >>> freeze_host(host, head=False)
        >>> sum(p.numel() for p in host.parameters() if p.requires_grad)
        4
    """
    classifier = head_of(model, head)
    learning = [*_blocks(model), *([classifier[1]] if classifier else [])]
    if not any(True for module in learning for _ in module.parameters()):
        raise UsageError(f"{type(model).__name__} has neither attention that learns nor a head; attend it first")
    model.train()
    model.requires_grad_(False)
    for module in learning:
        module.requires_grad_(True)
    awake = _ids(m for module in learning for m in module.modules())
    for module in model.modules():
        # its own buffers, its own flag: a wrapper answers for its host module, and holds blocks that learn
        if id(module) not in awake and any(module._buffers.get(name) is not None for name in STATISTICS):
            module.training = False


def _blocks(model: nn.Module) -> list[AbstractAttention]:
    return [module for module in model.modules() if isinstance(module, AbstractAttention)]


def _ids(things: Iterable[object]) -> set[int]:
    return {id(thing) for thing in things}


def _undecayed(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that weight decay leaves alone."""
    found = _ids(getattr(block, name, None) for block in _blocks(model) for name in block.undecayed)
    exempt: set[str] = getattr(model, "no_weight_decay", set)()  # a timm host's own names
    for path, module in model.named_modules():
        for name, p in module.named_parameters(prefix=path, recurse=False):
            vector = p.ndim <= 1 or name.rpartition(".")[2] == "bias"
            if vector or isinstance(module, NORMS) or site_name(name) in exempt:
                found.add(id(p))
    return found


def _layer_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the factor of each parameter's rate; a block is as deep as its site."""
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise UsageError(f"layer_decay needs to know a host's layers; {type(model).__name__} is no model of timm")
    named: list[tuple[str, tuple[str, Tensor]]] = [(site_name(path), (path, p)) for path, p in model.named_parameters()]
    layers = group_with_matcher(iter(named), matcher(coarse=False), return_values=True)
    last = max(layers)
    return {path: layer_decay ** (last - layer) for layer, members in layers.items() for path, _ in members}
