"""What is told of a place in a host, before a block stands there and after."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from visattn.insertion import places as at_places
from visattn.insertion.checks import check_host
from visattn.insertion.native import Absent, absent, natives
from visattn.insertion.places import Place
from visattn.insertion.probe import Probe, probe
from visattn.insertion.spec import NATIVE
from visattn.insertion.trunk import is_container, modules
from visattn.insertion.wrapper import Attended, attended


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
    native: str = ""  # the class of the host's own attention here
    removed: int = 0  # its parameters, where it was replaced or taken out
    image: tuple[int, int] = (0, 0)  # height and width of the larger trial image


def sites(host: nn.Module, *, example: Tensor | None = None, every: bool = False) -> list[Site]:
    """Return the places of ``host`` that could take a block, and those that have one.

    Its own attention is among them, with ``native`` as its placement.

    Args:
        host: the model; it is run on two small images and left as it was.
        example: as in ``attend``.
        every: list each module with ``(N, C, H, W)`` features, not only those that the words
            ``residual``, ``stages``, ``pool`` and ``native`` find.

    Example:
        >>> host = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        >>> [(site.name, site.placement) for site in sites(host)]
        [('1', 'stages'), ('2', 'pool')]
    """
    check_host(host)
    record = probe(host, example, one_size=True)
    words: dict[str, list[str]] = {name: [NATIVE] for name in absent(host)}
    for find in (at_places.residual, at_places.stages, at_places.pool, at_places.native):
        for place in find(host, record):
            words.setdefault(place.name, []).append(place.placement)
    wrappers, own, gone, there = attended(host), modules(host), absent(host), natives(host)
    found = []
    for name in sorted(record.seen, key=lambda name: record.seen[name].order):
        listed = name in words or name in wrappers or every
        usable = record.is_map(name) or "pool" in words.get(name, [])
        if name in own and listed and usable and not is_container(own[name]):
            place = Place(name, ", ".join(words.get(name, ["pattern"])))
            found.append(describe(record, place, wrappers.get(name), gone=gone.get(name), native=there.get(name)))
    return found


def describe(
    record: Probe,
    place: Place,
    wrapper: Attended | None,
    key: str | None = None,
    *,
    gone: Absent | None = None,
    native: nn.Module | None = None,
) -> Site:
    """Return the site at ``place``: all of its blocks or the one called ``key``, and the host's own attention there."""
    blocks = dict(wrapper.attention.items()) if wrapper is not None else {}
    blocks = {name: block for name, block in blocks.items() if key in {None, name}}
    seen = record.seen[place.name]
    takes = place.before or not record.is_map(place.name)
    shape = seen.inputs[-1] if takes else seen.outputs[-1]
    assert shape is not None
    own = gone.kept if gone is not None else native
    return Site(
        name=place.name,
        placement=place.placement,
        channels=shape[1],
        stage=record.stage(place.name),
        size=(shape[2], shape[3]),
        calls=seen.calls,
        blocks=tuple(blocks),
        parameters=sum(p.numel() for b in blocks.values() for p in b.parameters()),
        init=tuple("paper" if getattr(b, "strength", None) is None else "identity" for b in blocks.values()),
        native=type(own).__name__ if own is not None else "",
        removed=sum(p.numel() for p in gone.kept.parameters()) if gone is not None else 0,
        image=(record.images[-1].shape[2], record.images[-1].shape[3]),
    )
