"""Others' weights under our names: what every ``from_reference`` is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from visattn.types import UsageError

Block = TypeVar("Block", bound=nn.Module)
COUNTER = "num_batches_tracked"


def translated(state: Mapping[str, Tensor], *sources: Mapping[str, str]) -> dict[str, Tensor]:
    """Return ``state`` under our names, by the one of ``sources`` that knows all its keys.

    Args:
        state: an implementation's weights of one block.
        sources: for each known implementation its names of modules or parameters to ours; the
            longest name that begins a key counts, and an empty new name drops the key.

    Raises:
        UsageError: no source knows all keys.

    Example:
        >>> list(translated({"fc.0.weight": Tensor()}, {"fc1": "squeeze"}, {"fc.0": "squeeze"}))
        ['squeeze.weight']
    """
    unknown: list[list[str]] = []
    for source in sources:
        ours = {key: _renamed(key, source) for key in state}
        if not (missed := [key for key, name in ours.items() if name is None]):
            return {name: state[key] for key, name in ours.items() if name}
        unknown.append(missed)
    missed = min(unknown, key=len)
    known = "; or ".join(", ".join(source) for source in sources)
    raise UsageError(f"unknown weights {', '.join(missed[:4])}; valid: {known}")


def needed(channels: int | None) -> int:
    """Return ``channels``, which some weights do not tell.

    Raises:
        UsageError: they were not given.
    """
    if channels is None:
        raise UsageError("channels must be given: these weights do not tell them")
    return channels


def filled(block: Block, state: Mapping[str, Tensor]) -> Block:
    """Load ``state`` into ``block`` and return it; linear layers serve 1x1 convolutions, an absent bias is 0.

    Raises:
        UsageError: a key is missing or left over, or a shape differs by more than axes of length 1.
    """
    own = block.state_dict()
    absent = [key for key in own if key not in state and not key.endswith((".bias", COUNTER))]
    if absent or (extra := [key for key in state if key not in own]):
        what, keys = ("missing", absent) if absent else ("left over", extra)
        raise UsageError(f"weights of {type(block).__name__} {what}: {', '.join(keys[:4])}; valid: {', '.join(own)}")
    for key, value in own.items():
        if key not in state:
            value.zero_()
        elif _long_axes(value) != _long_axes(state[key]):
            shapes = f"{tuple(state[key].shape)}; valid: {tuple(value.shape)}"
            raise UsageError(f"{key} of {type(block).__name__} has shape {shapes}")
        else:
            value.copy_(state[key].view_as(value))
    return block


def _long_axes(tensor: Tensor) -> list[int]:
    return [length for length in tensor.shape if length != 1]


def _renamed(key: str, source: Mapping[str, str]) -> str | None:
    known = [name for name in source if key == name or key.startswith(f"{name}.")]
    if not known:
        return None
    longest = max(known, key=len)
    return source[longest] + key.removeprefix(longest) if source[longest] else ""
