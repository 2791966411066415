"""What is refused, and why, before anything changes."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import nn

from visattn.insertion.places import FORMS, Place
from visattn.insertion.probe import Probe
from visattn.insertion.spec import NATIVE, Entry
from visattn.insertion.trunk import child_of, clash, is_container
from visattn.insertion.wrapper import Attended
from visattn.types import UsageError


def check_host(host: nn.Module) -> None:
    """Refuse what is no eager, unwrapped module.

    Raises:
        UsageError: it is not one.
    """
    kind = type(host).__name__
    if not isinstance(host, nn.Module):
        raise UsageError(f"host is {kind}; valid: a torch.nn.Module")
    if isinstance(host, torch.jit.ScriptModule):
        raise UsageError("host is a ScriptModule; attend the eager model before scripting")
    if kind == "OptimizedModule":
        raise UsageError("host is compiled; attend the eager model, then compile it")
    for path, module in host.named_modules():
        kind = type(module).__name__
        parallel = isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel)
        if parallel or "FullyShardedDataParallel" in kind:
            what = f"{path} is wrapped by {kind}; attend" if path else f"host is wrapped by {kind}; attend its .module"
            raise UsageError(f"{what} before wrapping")
        if kind.startswith("FSDP"):  # fully_shard gives a module such a class
            raise UsageError(f"{path or 'host'} is sharded ({kind}); attend before sharding")


def check_places(
    host: nn.Module, entry: Entry, found: list[Place], wrappers: dict[str, Attended], taken: set[str]
) -> None:
    """Refuse places that are none, nested in one another, or attended already.

    Raises:
        UsageError: one of these.
    """
    if not found:
        raise UsageError(f"at={entry.at!r} finds no place in {type(host).__name__}; valid: {FORMS}")
    names = {place.name for place in found}
    for name in sorted(names):
        parts = name.split(".")
        outer = next((o for i in range(1, len(parts)) if (o := ".".join(parts[:i])) in names), None)
        if outer:
            raise UsageError(f"at={entry.at!r} names {name} and {outer}, one inside the other; name one of them")
        if (name in wrappers or name in taken) and (not entry.add or entry.at == NATIVE):
            have = ", ".join(wrappers[name].attention) if name in wrappers else "another entry's block"
            way = "" if entry.at == NATIVE else "pass add=True for a second block, or "
            raise UsageError(f"site {name} is already attended ({have}); {way}detach first")
        inner = next((site for site in wrappers if site.startswith(f"{name}.")), None)
        if inner and entry.at == NATIVE:
            raise UsageError(f"site {inner}, inside the native attention {name}, is attended; detach it first")


def channels_of(record: Probe, own: dict[str, nn.Module], place: Place, *, pooling: bool) -> int:
    """Return the channels at ``place``.

    Raises:
        UsageError: no block can stand there.
    """
    name, module = place.name, own[place.name]
    where = f"site {name} ({type(module).__name__})"
    if is_container(module):
        raise UsageError(f"{where} is a container that others index; name its child {child_of(name, module)}")
    if (name_of_both := clash(module)) is not None:
        raise UsageError(f"{where} has {name_of_both!r} of its own, which would clash; name one of its children")
    seen = record.seen.get(name)
    if seen is None or seen.calls != 1 or len(seen.outputs) != len(record.images):
        if seen is None and record.root and not name.startswith(f"{record.root}."):
            raise UsageError(f"{where} is not in the detector's {record.root}; valid: names in it")
        calls = 0 if seen is None else seen.calls
        raise UsageError(f"{where} is called {calls} times in a forward pass; a site is called once")
    takes = place.before or pooling
    shapes = seen.inputs if takes else seen.outputs
    what = "takes" if takes else "returns"
    if not record.moves(shapes) or (seen.pairs and not takes):
        _refuse_shape(f"{where} {what}", shapes[0], shapes[-1], fixed=record.fixed)
    a = shapes[0]
    assert a is not None  # it moves
    is_pool = seen.outputs[0] is not None and seen.outputs[0][:2] == a[:2] and set(seen.outputs[0][2:]) <= {1}
    if pooling and not is_pool:
        raise UsageError(f"{where} does not pool over all positions; a pooling head stands at='pool'")
    return a[1]


def _refuse_shape(what: str, a: tuple[int, ...] | None, b: tuple[int, ...] | None, *, fixed: bool) -> NoReturn:
    if a is None or b is None or len(a) != len("NCHW"):
        raise UsageError(f"{what} {a or 'no single tensor'}; a site has (N, C, H, W) features")
    if fixed:
        reason = "H and W are no whole fraction of the image, or no positions at all"
    elif a[3] == b[3] and a[1] != b[1]:
        reason = "channels are its last axis"
    else:
        reason = "H and W do not follow the image"
    raise UsageError(f"{what} {a}: {reason}; a site has (N, C, H, W) features")
