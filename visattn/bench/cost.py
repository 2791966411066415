"""What each arm of a comparison costs, measured in turns on one machine: times are told as ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visattn.bench.clock import interleaved, summaries
from visattn.bench.clock import threads as torch_threads
from visattn.maps.capture import evaluating
from visattn.types import UsageError

Progress = Callable[[float], None]


@dataclass
class _Arm:
    model: nn.Module
    optimiser: torch.optim.Optimizer
    facts: dict[str, float] = field(default_factory=dict)


def measure_cost(
    arms: Mapping[str, Callable[[], nn.Module]],
    *,
    image_size: int,
    batch: int,
    device: str | torch.device,
    rounds: int,
    channels: int = 3,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what each arm costs; the first arm is the one that ratios refer to.

    Args:
        arms: label to a function that builds the model; each is called once.
        image_size: side of the square random images.
        batch: images of a training step; latency is measured at one image.
        device: where to measure, as torch writes it.
        rounds: timings of each arm; 15 or more give a useful interval.
        channels: channels of an image.
        threads: of torch on the CPU while measuring; torch's present number without it.
        progress: called after each round with the share done, up to 1.

    Returns:
        ``image_size batch device threads rounds`` and ``arms``: label to ``parameters``; ``macs`` of one
        image; ``latency_ms`` (eval mode, one image) and ``train_ms`` (forward, backward and step of SGD at
        ``batch``), medians over the rounds; ``latency_ratio`` and ``train_ratio``, medians of the rounds'
        ratios, each with the bootstrap's 95 % interval ``_low`` and ``_high``; ``saved_bytes``, what a
        training step's forward keeps for its backward beside parameters and buffers; and, on a CUDA device,
        ``peak_bytes`` of a training step with the model, its gradients and its momenta.

    Raises:
        UsageError: no arms, a number below 1, or a device that is not there.

    Example:
        >>> arms = {"none": lambda: nn.Conv2d(3, 4, 3)}
        >>> measure_cost(arms, image_size=8, batch=2, device="cpu", rounds=1)["arms"]["none"]["macs"]
        3888
    """
    place = _checked(arms, device, image_size=image_size, batch=batch, rounds=rounds, channels=channels)
    with torch_threads(threads), torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        one, many = (torch.randn(n, channels, image_size, image_size, device=place) for n in (1, batch))
        built = {label: _profiled(build, one, many) for label, build in arms.items()}
        done = count(1)

        def tick() -> None:
            if progress is not None:
                progress(next(done) / (2 * rounds))

        infer = interleaved({label: _inference(arm, one) for label, arm in built.items()}, rounds, place, tick)
        train = interleaved({label: _training(arm, many) for label, arm in built.items()}, rounds, place, tick)
        used = torch.get_num_threads()
    for name, times in (("latency", infer), ("train", train)):
        for label, summary in summaries(name, times).items():
            built[label].facts.update(summary)
    return {
        "image_size": image_size,
        "batch": batch,
        "device": str(place),
        "threads": used,
        "rounds": rounds,
        "arms": {label: arm.facts for label, arm in built.items()},
    }


def count_macs(model: nn.Module, images: Tensor) -> int:
    """Return the multiply-adds of the convolutions and matrix products for ``images``, in eval mode.

    Example:
        >>> count_macs(nn.Linear(4, 5), torch.zeros(2, 4))
        40
    """
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    return int(counter.get_total_flops()) // 2


def count_saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward of ``model`` keeps for its backward, in the mode it is in.

    Each storage counts once and whole; those of parameters and buffers do not count, the images do.

    Example:
        >>> count_saved_bytes(nn.ReLU(), torch.zeros(8, requires_grad=True))
        32
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no later tensor gets the same address
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(images)
    total = sum(storage.nbytes() for address, storage in kept.items() if address not in own)
    del output  # the graph lived until here
    return total


def _checked(arms: Mapping[str, object], device: str | torch.device, **numbers: int) -> torch.device:
    if not arms:
        raise UsageError("measure_cost needs at least one arm, got none")
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise UsageError(f"device '{device}' is not there; valid: {', '.join(there)}") from error
    # "cuda" alone names no card, and some of torch.cuda asks for one
    return torch.device("cuda", torch.cuda.current_device()) if place.type == "cuda" and place.index is None else place


def _profiled(build: Callable[[], nn.Module], one: Tensor, many: Tensor) -> _Arm:
    """Build an arm and count what needs no clock."""
    place = one.device
    before = torch.cuda.memory_allocated(place) if place.type == "cuda" else 0
    model = build().to(place).train()
    # a tiny step: real work, and the weights stay where arithmetic is neither NaN nor denormal
    arm = _Arm(model, torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9))
    arm.facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    arm.facts["macs"] = count_macs(model, one)
    arm.facts["saved_bytes"] = count_saved_bytes(model, many)
    if place.type == "cuda":
        step = _training(arm, many)
        step()  # the first step makes the momenta
        torch.cuda.reset_peak_memory_stats(place)
        step()
        torch.cuda.synchronize(place)
        arm.facts["peak_bytes"] = torch.cuda.max_memory_allocated(place) - before
    return arm


def _inference(arm: _Arm, images: Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            arm.model(images)

    arm.model.eval()
    return call


def _training(arm: _Arm, images: Tensor) -> Callable[[], None]:
    def call() -> None:
        arm.optimiser.zero_grad(set_to_none=True)
        loss = torch.stack([output.float().square().mean() for output in _tensors(arm.model(images))]).sum()
        torch.autograd.backward(loss)
        arm.optimiser.step()

    arm.model.train()
    return call


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of a model's output, which may be nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
