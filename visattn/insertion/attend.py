"""Attention into a host and out again: everything is checked first, changed after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from visattn.attention import block as build_block
from visattn.attention import block_class
from visattn.attention._contract import AbstractAttention, AbstractPool
from visattn.insertion import places as at_places
from visattn.insertion.checks import channels_of, check_host, check_places
from visattn.insertion.native import Absent, absent
from visattn.insertion.places import Place
from visattn.insertion.probe import Probe, probe, undisturbed
from visattn.insertion.site import Site, describe, sites
from visattn.insertion.spec import NATIVE, NOTHING, At, Entry, parse
from visattn.insertion.trunk import modules
from visattn.insertion.wrapper import Attended, attended, swap, wrap
from visattn.types import AttentionSpec, Init, UsageError, unknown

__all__ = ["Site", "attend", "detach", "insert", "sites"]


@dataclass(frozen=True)
class _Plan:
    place: Place
    entry: Entry
    block: AbstractAttention | None  # none where the host's own attention is only taken out

    @property
    def replaces(self) -> bool:
        return self.place.placement == NATIVE


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

    ``at="native"`` is the exception: there the block takes the place of the host's own attention
    (the SE of an EfficientNet), and ``{"native": None}`` only takes that out, for a baseline without
    attention. Either **changes the function** of a trained host, with any ``init``; the removed
    weights leave the parameters and the state dict, and ``detach`` brings them back.

    Args:
        host: any CNN: timm's, torchvision's or your own. Attend before compiling and before DDP.
        spec: a block's name; ``{block:, at:, stages:, init:, <its keywords>}``; a mapping from places
            to specs; a list of these; ``None`` or ``none`` for no attention.
        at: the place: ``paper``, ``residual``, ``stages``, ``stage:<i>``, ``pool``, ``native``, a
            dotted pattern whose ``*`` never crosses a dot, ``re:<regex>``, ``before:<pattern>``, or a
            callable of name and module.
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
    check_host(host)
    return insert(host, probe(host, example, one_size=True), entries) if entries else []


def insert(host: nn.Module, record: Probe, entries: Sequence[Entry]) -> list[Site]:
    """Insert ``entries`` into ``host``, as ``attend`` does, by the ``record`` of a trial run of it.

    Raises:
        UsageError: as ``attend``.
    """
    own, wrappers = modules(host), attended(host)
    plans: list[_Plan] = []
    for entry in entries:
        plans += _plan(host, record, entry, own, wrappers, {plan.place.name for plan in plans})
    done: list[tuple[_Plan, Attended | None, str]] = []
    try:
        for plan in plans:
            done.append((plan, *_commit(host, plan, own, wrappers)))  # noqa: PERF401 - what is done is undone
        _check_calls(host, record, done)
    except Exception as error:  # a host that looks at its modules raises anything once one of them is wrapped
        for plan, _, key in reversed(done):
            detach(host, sites=[plan.place.name], block=None if key == NOTHING else key)
        if isinstance(error, UsageError):
            raise
        names = ", ".join(plan.place.name for plan in plans[:3])
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UsageError(
            f"{type(host).__name__} fails with attention at {names} ({reason}); name another site"
        ) from error
    gone = absent(host)
    return [
        replace(describe(record, p.place, wrapper, key, gone=gone.get(p.place.name)), init=(p.entry.init,))
        for p, wrapper, key in done
    ]


def detach(host: nn.Module, *, sites: Iterable[str] | None = None, block: str | None = None) -> list[str]:
    """Take blocks out of ``host`` in place: all, those at ``sites``, or those named ``block``.

    Where a block had replaced the host's own attention, or that was taken out, it comes back.

    Returns:
        What was removed, as ``<site>/<block>``, or ``<site>/none`` where the host's own attention had
        only been taken out. Without its last block a site is the host's own module again, the same object.

    Raises:
        UsageError: a site has no block, or no such block is there.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> _ = attend(host, "se", at="1")
        >>> detach(host)
        ['1/se']
    """
    wrappers, gone = attended(host), absent(host)
    known = list(dict.fromkeys([*wrappers, *gone]))
    names = known if sites is None else [sites] if isinstance(sites, str) else list(dict.fromkeys(sites))
    for name in names:
        if name not in known:
            raise unknown("attended site", name, known)
    chosen = [
        (n, key) for n in names if n in wrappers for key in wrappers[n].attention if block is None or _is_of(key, block)
    ]
    if not chosen and block is not None:
        raise unknown("inserted block", block, sorted({key for w in wrappers.values() for key in w.attention}))
    for name, key in chosen:
        wrappers[name].remove(key)
    removed = [f"{name}/{key}" for name, key in chosen]
    removed += [f"{name}/{NOTHING}" for name in names if name not in wrappers and block is None]
    for name in names:
        if name in wrappers and not wrappers[name].attention:
            swap(host, wrappers[name], wrappers[name].base)
        emptied = name in {site for site, _ in chosen} and not wrappers[name].attention
        if name in gone and (emptied or (name not in wrappers and block is None)):
            swap(host, gone[name], gone[name].kept)
    return removed


def _is_of(key: str, block: str) -> bool:
    """Whether ``key`` is ``block`` or a further one of it at the same site (``cbam_2``)."""
    return re.fullmatch(rf"{re.escape(block)}(_\d+)?", key) is not None


def _plan(
    host: nn.Module,
    record: Probe,
    entry: Entry,
    own: dict[str, nn.Module],
    wrappers: dict[str, Attended],
    taken: set[str],
) -> list[_Plan]:
    cls = None if entry.block == NOTHING else block_class(entry.block)
    found = at_places.resolve(host, record, entry, cls)
    check_places(host, entry, found, wrappers, taken)
    plans = []
    for place in found:
        channels = channels_of(record, own, place, pooling=cls is not None and issubclass(cls, AbstractPool))
        block = None if cls is None else _build(entry, channels, record, place, training=own[place.name].training)
        plans.append(_Plan(place, entry, block))
    return plans


def _build(entry: Entry, channels: int, record: Probe, place: Place, *, training: bool) -> AbstractAttention:
    """Build a block without touching the generators, where its site's features are and in their dtype."""
    # on the CPU and outside inference mode, whatever surrounds the call: these are parameters to be trained
    with torch.inference_mode(False), torch.device("cpu"), torch.random.fork_rng(devices=[]):
        block = build_block(entry.block, channels, **entry.keywords)
        if entry.init == "identity":
            block.start_as_identity()
        seen = record.seen[place.name]
        return block.to(device=seen.device, dtype=seen.dtype).train(training)


def _commit(
    host: nn.Module, plan: _Plan, own: dict[str, nn.Module], wrappers: dict[str, Attended]
) -> tuple[Attended | None, str]:
    name = plan.place.name
    if plan.replaces and name not in wrappers:
        stand_in = Absent(own[name])
        swap(host, own[name], stand_in)
        own[name] = stand_in
    if plan.block is None:
        return None, NOTHING
    if name not in wrappers:
        wrappers[name] = wrap(own[name])
        swap(host, own[name], wrappers[name])
    return wrappers[name], wrappers[name].insert(plan.entry.block, plan.block, before=plan.place.before)


def _check_calls(host: nn.Module, record: Probe, done: Sequence[tuple[_Plan, Attended | None, str]]) -> None:
    """Run the host once more; refuse a wrapper that it passes by, through a reference of its own."""
    calls: dict[str, int] = {}
    handles = [
        wrapper.register_forward_hook(lambda *_, name=plan.place.name: calls.update({name: calls.get(name, 0) + 1}))
        for plan, wrapper, _ in done
        if wrapper is not None and wrapper.attention
    ]
    part = host.get_submodule(record.root)
    try:
        with undisturbed(part), torch.no_grad():
            part(record.images[0])
    finally:
        for handle in handles:
            handle.remove()
    for plan, wrapper, _ in done:
        name = plan.place.name
        if wrapper is not None and not calls.get(name):
            raise UsageError(f"site {name} is called through a reference other than its name; name another site")
