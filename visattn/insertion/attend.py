"""Attention into a host and out again: everything is checked first, changed after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visattn.attention import block as build_block
from visattn.attention import block_class
from visattn.attention._contract import AbstractAttention, AbstractPool
from visattn.insertion import places as at_places
from visattn.insertion.places import Place
from visattn.insertion.probe import Probe, probe
from visattn.insertion.spec import At, Entry, parse
from visattn.insertion.wrapper import Attended, attended
from visattn.types import AttentionSpec, Init, UsageError, unknown


@dataclass(frozen=True)
class Site:
    """A named place in a host."""

    name: str
    placement: str
    channels: int
    stage: int | None  # i for stride 2^(i + 1)
    size: tuple[int, int]  # height and width of the larger trial image's map
    calls: int
    blocks: tuple[str, ...] = ()
    parameters: int = 0  # of the blocks
    init: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Plan:
    place: Place
    entry: Entry
    block: AbstractAttention


def attend(
    host: nn.Module,
    spec: AttentionSpec,
    *,
    at: At = "paper",
    stages: Sequence[int] | None = None,
    init: Init = "identity",
    example: Tensor | None = None,
    add: bool = False,
) -> list[Site]:
    """Insert the blocks that ``spec`` names into ``host``, in place, and return their sites.

    The host's keys, checkpoints and, with ``init="identity"``, its outputs stay what they were, bit
    for bit; new keys are ``<site>.attention.<block>.<parameter>``. Nothing is changed unless
    everything can be.

    Args:
        host: any CNN: timm's, torchvision's or your own. Attend before compiling and before DDP.
        spec: a block's name; ``{block:, at:, stages:, init:, <its keywords>}``; a mapping from places
            to specs; a list of these; ``None`` or ``none`` for no attention.
        at: the place: ``paper``, ``residual``, ``stages``, ``stage:<i>``, ``pool``, a dotted pattern
            whose ``*`` never crosses a dot, ``re:<regex>``, ``before:<pattern>``, or a callable of
            name and module.
        stages: keeps the places at these stages; stage ``i`` has stride ``2^(i + 1)``.
        init: ``identity`` changes nothing at step 0; ``paper`` starts as the paper does.
        example: an input ``(N, C, H, W)`` for the trial run, for hosts that refuse an image of their
            first convolution's channels.
        add: allow a second block at an attended site.

    Raises:
        UsageError: an unknown block, keyword or place; a place without ``(N, C, H, W)`` features; one
            that is not called once, nested, a container or already attended; a wrapped host.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> [site.name for site in attend(host, "eca", at="1")]
        ['1']
        >>> sorted(host.state_dict())
        ['0.bias', '0.weight', '1.attention.eca.mix.weight', '1.attention.eca.strength']
    """
    entries = parse(spec, at=at, stages=stages, init=init, add=add)
    _check_host(host)
    if not entries:
        return []
    record = probe(host, example)
    plans: list[_Plan] = []
    for entry in entries:
        plans += _plan(host, record, entry, {plan.place.name for plan in plans})
    keys = [_commit(host, plan) for plan in plans]
    return [_site(record, plan, key) for plan, key in zip(plans, keys, strict=True)]


def detach(host: nn.Module, *, sites: Iterable[str] | None = None, block: str | None = None) -> list[str]:
    """Take blocks out of ``host`` in place: all, those at ``sites``, or those named ``block``.

    Returns:
        What was removed, as ``<site>/<block>``. Without its last block a site is the host's own
        module again, the same object.

    Raises:
        UsageError: a site has no block, or no such block is there.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> _ = attend(host, "se", at="1")
        >>> detach(host)
        ['1/se']
    """
    wrappers = attended(host)
    names = list(wrappers) if sites is None else [sites] if isinstance(sites, str) else list(sites)
    for name in names:
        if name not in wrappers:
            raise unknown("attended site", name, wrappers)
    chosen = [(n, key) for n in names for key in wrappers[n].attention if block is None or _is_of(key, block)]
    if not chosen and block is not None:
        raise unknown("inserted block", block, sorted({key for w in wrappers.values() for key in w.attention}))
    for name, key in chosen:
        wrappers[name].remove(key)
    # inner sites first: an outer wrapper's removal changes the paths below it
    for path, module in reversed(list(host.named_modules())):
        if isinstance(module, Attended) and not module.attention:
            _replace(host, path, module.base)
    return [f"{name}/{key}" for name, key in chosen]


def _is_of(key: str, block: str) -> bool:
    """Whether ``key`` is ``block`` or a further one of it at the same site (``cbam_2``)."""
    return re.fullmatch(rf"{re.escape(block)}(_\d+)?", key) is not None


def sites(host: nn.Module, *, example: Tensor | None = None, every: bool = False) -> list[Site]:
    """Return the places of ``host`` that could take a block, and those that have one.

    Args:
        host: the model; it is run on two small images and left as it was.
        example: as in ``attend``.
        every: list each module with ``(N, C, H, W)`` features, not only those that the words
            ``residual``, ``stages`` and ``pool`` find.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> [(site.name, site.placement) for site in sites(host)]
        [('1', 'stages'), ('2', 'pool')]
    """
    _check_host(host)
    record = probe(host, example)
    words: dict[str, list[str]] = {}
    for find in (at_places.residual, at_places.stages, at_places.pool):
        for place in find(host, record):
            words.setdefault(place.name, []).append(place.placement)
    wrappers = attended(host)
    found = []
    own = at_places.modules(host)
    for name in sorted(record.seen, key=lambda name: record.seen[name].order):
        listed = name in words or name in wrappers or every
        usable = record.is_map(name) or "pool" in words.get(name, [])
        if name in own and listed and usable and not at_places.is_container(own[name]):
            found.append(_describe(record, name, ", ".join(words.get(name, ["pattern"])), wrappers.get(name)))
    return found


def _describe(record: Probe, name: str, placement: str, wrapper: Attended | None) -> Site:
    blocks = dict(wrapper.attention.items()) if wrapper is not None else {}
    seen = record.seen[name]
    shape = seen.outputs[-1] if record.is_map(name) else seen.inputs[-1]
    assert shape is not None
    return Site(
        name=name,
        placement=placement,
        channels=shape[1],
        stage=record.stage(name),
        size=(shape[2], shape[3]),
        calls=seen.calls // 2 or seen.calls,
        blocks=tuple(blocks),
        parameters=sum(p.numel() for b in blocks.values() for p in b.parameters()),
        init=tuple("paper" if getattr(b, "strength", None) is None else "identity" for b in blocks.values()),
    )


def _check_host(host: nn.Module) -> None:
    kind = type(host).__name__
    if not isinstance(host, nn.Module):
        raise UsageError(f"host is {kind}; valid: a torch.nn.Module")
    if isinstance(host, nn.parallel.DistributedDataParallel | nn.DataParallel) or "FullyShardedDataParallel" in kind:
        raise UsageError(f"host is wrapped by {kind}; attend its .module before wrapping")
    if isinstance(host, torch.jit.ScriptModule):
        raise UsageError("host is a ScriptModule; attend the eager model before scripting")
    if kind == "OptimizedModule":
        raise UsageError("host is compiled; attend the eager model, then compile it")


def _plan(host: nn.Module, record: Probe, entry: Entry, taken: set[str]) -> list[_Plan]:
    cls = block_class(entry.block)
    own, wrappers = at_places.modules(host), attended(host)
    found = at_places.resolve(host, record, entry, cls)
    if not found:
        raise UsageError(f"at={entry.at!r} finds no place in {type(host).__name__}; valid: {at_places.FORMS}")
    names = sorted(place.name for place in found)
    for name in names:
        outer = next((n for n in names if name.startswith(f"{n}.")), None)
        if outer:
            raise UsageError(f"at={entry.at!r} names {name} and {outer}, one inside the other; name one of them")
        if (name in wrappers or name in taken) and not entry.add:
            have = ", ".join(wrappers[name].attention) if name in wrappers else "another entry's block"
            raise UsageError(
                f"site {name} is already attended ({have}); pass add=True for a second block, or detach first"
            )
    plans = []
    for place in found:
        channels = _channels(record, own, place, pooling=issubclass(cls, AbstractPool))
        plans.append(_Plan(place, entry, _build(entry, channels, own[place.name], host)))
    return plans


def _channels(record: Probe, own: dict[str, nn.Module], place: Place, *, pooling: bool) -> int:
    """Return the channels at ``place`` or refuse it, saying why."""
    name, module = place.name, own[place.name]
    where = f"site {name} ({type(module).__name__})"
    if at_places.is_container(module):
        raise UsageError(f"{where} is a container that others index; name its child {at_places.child_of(name, module)}")
    if at_places.clashes(module):
        raise UsageError(f"{where} has an 'attention' of its own, whose keys would clash; name one of its children")
    seen = record.seen.get(name)
    runs = 2
    if seen is None or seen.calls != 1 or len(seen.outputs) != runs:
        calls = 0 if seen is None else seen.calls
        raise UsageError(f"{where} is called {calls} times in a forward pass; a site is called once")
    shapes = seen.inputs if place.before or pooling else seen.outputs
    a, b = shapes[0], shapes[-1]
    what = "takes" if place.before or pooling else "returns"
    four = 4
    if a is None or b is None or len(a) != four:
        raise UsageError(f"{where} {what} {a or 'no single tensor'}; a site has (N, C, H, W) features")
    if a[1] != b[1] or a[2] == b[2] or a[3] == b[3]:
        reason = "channels are its last axis" if a[3] == b[3] and a[1] != b[1] else "H and W do not follow the image"
        raise UsageError(f"{where} {what} {a}: {reason}; a site has (N, C, H, W) features")
    is_pool = seen.outputs[0] is not None and seen.outputs[0][:2] == a[:2] and set(seen.outputs[0][2:]) <= {1}
    if pooling and not is_pool:
        raise UsageError(f"{where} does not pool over all positions; a pooling head stands at='pool'")
    return a[1]


def _build(entry: Entry, channels: int, module: nn.Module, host: nn.Module) -> AbstractAttention:
    """Build a block without touching the generators, on its site's device and in its dtype."""
    tensors = [*module.parameters(), *host.parameters()]
    like = next((p for p in tensors if p.is_floating_point()), torch.zeros(1))
    with torch.random.fork_rng(devices=[]):
        block = build_block(entry.block, channels, **entry.keywords)
    if entry.init == "identity":
        block.start_as_identity()
    return block.to(device=like.device, dtype=like.dtype).train(module.training)


def _commit(host: nn.Module, plan: _Plan) -> str:
    wrapper = attended(host).get(plan.place.name)
    if wrapper is None:
        path = next(path for path, m in host.named_modules() if m is at_places.modules(host)[plan.place.name])
        wrapper = Attended(host.get_submodule(path))
        _replace(host, path, wrapper)
    return wrapper.insert(plan.entry.block, plan.block, before=plan.place.before)


def _replace(host: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    host.get_submodule(parent)._modules[name] = module


def _site(record: Probe, plan: _Plan, key: str) -> Site:
    seen = record.seen[plan.place.name]
    shape = seen.inputs[-1] if plan.place.before or isinstance(plan.block, AbstractPool) else seen.outputs[-1]
    assert shape is not None
    return Site(
        name=plan.place.name,
        placement=plan.place.placement,
        channels=plan.block.channels,
        stage=record.stage(plan.place.name),
        size=(shape[2], shape[3]),
        calls=1,
        blocks=(key,),
        parameters=sum(p.numel() for p in plan.block.parameters()),
        init=(plan.entry.init,),
    )
