"""From a word or a pattern to names of modules in a host."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from torch import nn

from visattn.attention._contract import AbstractAttention, AbstractPool
from visattn.insertion.native import natives
from visattn.insertion.probe import Probe
from visattn.insertion.spec import NATIVE, At, Entry
from visattn.insertion.trunk import PYRAMID, child_of, is_container, modules, outermost, stage_ends, why_none
from visattn.types import UsageError, unknown

WORDS = ("paper", "residual", "stages", "stage:<i>", "pool", "fpn", NATIVE)
FORMS = f"{', '.join(WORDS)}, a dotted pattern, re:<regex>, before:<pattern>"

# The names of host classes, in timm and torchvision, that papers mean by a family.
FAMILIES = {
    "ResNet": "resnet",
    "RegNet": "regnet",
    "ConvNeXt": "convnext",
    "EfficientNet": "mobilenet",
    "MobileNetV2": "mobilenet",
    "MobileNetV3": "mobilenet",
    "DenseNet": "densenet",
    "VGG": "vgg",
    "VovNet": "vovnet",
    "InceptionV3": "inception",
    "Inception3": "inception",
    "GoogLeNet": "inception",
}
RESNET = ("layer1", "layer2", "layer3")  # a detector's body has lost its class and kept its layers

PYRAMID_OUTPUTS = "layer_blocks"  # of torchvision's pyramid


class Place(NamedTuple):
    """A module of the host at which a block may stand."""

    name: str
    placement: str  # which word or pattern chose it
    before: bool = False


def family(host: nn.Module) -> str:
    """Return the family of ``host`` or of the first model in it that has one, else ``other``."""
    for module in host.modules():
        kind = type(module).__name__
        if kind in FAMILIES:
            return FAMILIES[kind]
        if all(is_container(dict(module.named_children()).get(layer)) for layer in RESNET):
            return "resnet"
    return "other"


def resolve(host: nn.Module, probe: Probe, entry: Entry, block: type[AbstractAttention] | None) -> list[Place]:
    """Return the places that ``entry`` names, before any check of what stands there."""
    places = _resolve(host, probe, entry.at, block)
    stages = entry.stages
    if stages is None and entry.at == "paper" and block is not None and block.paper.get(family(host)) is not None:
        stages = block.paper[family(host)].stages if places and places[0].placement.startswith("paper") else None
    if stages is None:
        return places
    kept = [place for place in places if probe.seen.get(place.name) and probe.stage(place.name) in stages]
    if not kept and entry.stages is None:
        return places[-1:]  # the paper's last stage has another stride here, as in a dilated host
    if not kept:
        have = sorted({s for p in places if p.name in probe.seen and (s := probe.stage(p.name)) is not None})
        raise UsageError(f"no place at={entry.at!r} lies in stages {list(stages)}; valid: {have}")
    return kept


def _resolve(host: nn.Module, probe: Probe, at: At, block: type[AbstractAttention] | None) -> list[Place]:
    if not isinstance(at, str):
        return [Place(name, getattr(at, "__name__", "callable")) for name, m in modules(host).items() if at(name, m)]
    if at != "paper" or block is None:
        return _named(host, probe, at)
    if issubclass(block, AbstractPool):
        return _named(host, probe, "pool")
    said = block.paper.get(family(host))
    if said is not None:
        try:
            found = _named(host, probe, said.at)
        except UsageError:
            found = []
        if found:
            return [Place(p.name, f"paper: {said.source}", p.before) for p in found]
    found = _unnamed(host, probe)
    if not found:
        raise UsageError(f"at='paper' finds no place in {type(host).__name__}: {why_none(host, probe)}")
    return found


def _unnamed(host: nn.Module, probe: Probe) -> list[Place]:
    """Where no paper names a place: residual branches if they are in half of the stages or more, else stages."""
    ends, branches = stages(host, probe), residual(host, probe)
    reached, have = ({probe.stage(place.name) for place in places} for places in (branches, ends))
    return branches if branches and 2 * len(reached & have) >= len(have) else ends


def _named(host: nn.Module, probe: Probe, at: str) -> list[Place]:
    words: dict[str, Callable[[nn.Module, Probe], list[Place]]] = {
        "residual": residual, "stages": stages, "pool": pool, "fpn": fpn, NATIVE: native,
    }  # fmt: skip
    if at in words:
        found = words[at](host, probe)
        if not found:
            raise _none(host, probe, at)
        return found
    if at.startswith("stage:"):
        by_stage = {probe.stage(place.name): place for place in stages(host, probe, first=0)}
        number = at.removeprefix("stage:")
        if not by_stage:
            raise _none(host, probe, at)
        if not number.isdigit() or int(number) not in by_stage:
            raise unknown("place", at, [f"stage:{stage}" for stage in by_stage])
        return [Place(by_stage[int(number)].name, at)]
    return matching(host, at)


def _none(host: nn.Module, probe: Probe, at: str) -> UsageError:
    reasons = {
        "pool": "no module pools its last features over all positions",
        "fpn": "it has no pyramid, as torchvision's detectors do",
        NATIVE: "it comes without attention that could be taken out",
    }
    reason = f"{reasons[at]}; valid: {FORMS}" if at in reasons else why_none(host, probe)
    return UsageError(f"at={at!r} finds no place in {type(host).__name__}: {reason}")


def residual(host: nn.Module, probe: Probe) -> list[Place]:
    """The end of each residual branch, before its addition; ahead of drop path and of what else only passes on."""
    own = modules(host)
    ends = [outermost(own, names, probe) for names in probe.residual_ends]
    return [Place(name, "residual", probe.seen[name].passes) for name in dict.fromkeys(ends) if name]


def stages(host: nn.Module, probe: Probe, *, first: int = 1) -> list[Place]:
    """The last child module of each stage, from stride ``2^(first + 1)``."""
    return [Place(name, "stages") for name in stage_ends(host, probe, first=first)]


def pool(host: nn.Module, probe: Probe) -> list[Place]:
    """The module that pools the last features over all positions."""
    own = modules(host)
    found = []
    for name, seen in probe.seen.items():
        x, y = seen.inputs[-1], seen.outputs[-1]
        if name in own and x is not None and y is not None and "pool" in type(own[name]).__name__.lower():
            moving = len(x) == 4 and x[2:] != (1, 1)
            if moving and y[:2] == x[:2] and all(axis == 1 for axis in y[2:]):
                found.append((seen.order, name))
    # what pools for a gate, or for one branch of many, has maps behind it
    last = max((seen.order for name, seen in probe.seen.items() if probe.is_map(name)), default=-1)
    return [Place(max(found)[1], "pool")] if found and max(found)[0] > last else []


def fpn(host: nn.Module, probe: Probe) -> list[Place]:
    """The last module of each output convolution of a pyramid (torchvision's), finest level first."""
    del probe
    own = modules(host)
    outputs = [f"{name}.{PYRAMID_OUTPUTS}" for name in own if type(own[name]).__name__ == PYRAMID]
    found = [f"{output}.{child}" for output in outputs for child, _ in own[output].named_children()]
    return [Place(child_of(name, own[name]) if is_container(own[name]) else name, "fpn") for name in found]


def native(host: nn.Module, probe: Probe) -> list[Place]:
    """The attention modules that the host comes with."""
    del probe
    return [Place(name, NATIVE) for name in natives(host)]


def matching(host: nn.Module, pattern: str) -> list[Place]:
    """The modules whose whole name matches ``pattern``; a ``*`` never crosses a dot."""
    before = pattern.startswith("before:")
    bare = pattern.removeprefix("before:")
    names = list(modules(host))
    if bare.startswith("re:"):
        try:
            regex = re.compile(bare.removeprefix("re:"))
        except re.error as error:
            raise UsageError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    else:
        regex = re.compile(re.escape(bare).replace(r"\*", r"[^.]*").replace(r"\?", "[^.]"))
    found = [name for name in names if regex.fullmatch(name)]
    if not found:
        near = get_close_matches(bare, names, n=5, cutoff=0.5) or [n for n in names if "." not in n][:8]
        raise UsageError(f"pattern {pattern!r} matches no module; near names: {', '.join(near)}; valid: {FORMS}")
    return [Place(name, pattern, before) for name in found]
