"""What each block costs by itself, in units of a plain pass: one copy of the same features."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from visattn.attention import block
from visattn.attention._contract import AbstractAttention, AbstractGate, AbstractPool, MapTap
from visattn.bench.clock import interleaved, summaries
from visattn.bench.cost import count_macs, count_saved_bytes
from visattn.types import UsageError

COPY = "copy"
BATCH, CHANNELS, SIDE = 64, 256, 28  # 51 MB in fp32: beyond the caches, where a copy runs at the speed of memory


def measure_blocks(
    names: Sequence[str],
    *,
    batch: int = BATCH,
    channels: int = CHANNELS,
    side: int = SIDE,
    rounds: int = 7,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Measure the default form of each block on features ``(batch, channels, side, side)`` on the CPU.

    Args:
        names: the blocks.
        batch: feature maps at a time.
        channels: their channels.
        side: their height and width.
        rounds: timings of each block, in turns with a copy of the features.
        progress: called after each round with the share done, up to 1.

    Returns:
        ``torch``, ``device``, ``threads``, ``batch``, ``channels``, ``side``, ``rounds`` and ``blocks``: name to
        ``form`` (gate, transform, pool), ``family``, ``maps`` (name to kind), ``places`` (family of hosts to
        ``at``, ``source``, ``stages``), ``parameters``, ``macs`` of one map, ``saved`` (bytes kept for backward
        over the features' bytes), ``forward`` and ``training`` (forward and backward), in copies.

    Raises:
        UsageError: an unknown block, or a number below 1.

    Example:
        >>> found = measure_blocks(["se"], batch=1, channels=8, side=4, rounds=1)["blocks"]["se"]
        >>> found["parameters"], found["macs"], found["maps"]
        (25, 16, {'channel': 'channel'})
    """
    for key, value in {"batch": batch, "channels": channels, "side": side, "rounds": rounds}.items():
        if value < 1:
            raise UsageError(f"{key} must be at least 1, got {value}")
    with torch.random.fork_rng(devices=[]):
        x = torch.randn(batch, channels, side, side)
        built = {name: block(name, channels) for name in names}
        copy = partial(_forward, torch.clone, x)
        forward = {COPY: copy} | {name: partial(_forward, module, x) for name, module in built.items()}
        backward = {name: partial(_train, module, x, _gradient(module, x)) for name, module in built.items()}
        done = [0]

        def tick() -> None:
            done[0] += 1
            if progress is not None:
                progress(done[0] / (2 * rounds))

        cpu = torch.device("cpu")
        costs: dict[str, Mapping[str, Mapping[str, float]]] = {}
        for key, calls, training_mode in (("forward", forward, False), ("training", {COPY: copy} | backward, True)):
            for module in built.values():
                module.train(training_mode)
            costs[key] = summaries(key, interleaved(calls, rounds, cpu, tick))
        rows = {name: _facts(module, x) for name, module in built.items()}
    for name, row in rows.items():
        row |= {key: round(found[name][f"{key}_ratio"], 2) for key, found in costs.items()}
    return {
        "torch": torch.__version__,
        "device": f"CPU, {platform.machine()}",
        "threads": torch.get_num_threads(),
        "batch": batch,
        "channels": channels,
        "side": side,
        "rounds": rounds,
        "blocks": rows,
    }


def describe(module: AbstractAttention) -> dict[str, Any]:
    """Return what no clock tells of a block: form, family, maps, places and parameters."""
    forms = {AbstractGate: "gate", AbstractPool: "pool"}
    return {
        "form": next((form for base, form in forms.items() if isinstance(module, base)), "transform"),
        "family": module.family,
        "maps": {name: tap.kind for name, tap in module.named_modules() if isinstance(tap, MapTap)},
        "places": {host: dict(place._asdict()) for host, place in type(module).paper.items()},
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _facts(module: AbstractAttention, x: Tensor) -> dict[str, Any]:
    features = x.detach().clone().requires_grad_()
    saved = count_saved_bytes(module.train(), features)
    return {
        **describe(module),
        "macs": count_macs(module, x[:1]),
        "saved": round(saved / (x.numel() * x.element_size()), 2),
    }


def _forward(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with torch.inference_mode():
        function(x)


def _train(module: nn.Module, x: Tensor, gradient: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    torch.autograd.backward(module(leaf), gradient)


def _gradient(module: nn.Module, x: Tensor) -> Tensor:
    return x.mean((2, 3)) if isinstance(module, AbstractPool) else x
