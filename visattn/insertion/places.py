"""From a word or a pattern to names of modules in a host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from torch import nn

from visattn.attention._contract import AbstractAttention, AbstractPool
from visattn.insertion.probe import Probe
from visattn.insertion.spec import At, Entry
from visattn.insertion.wrapper import ATTENTION, Attended, site_name
from visattn.types import UsageError, unknown

WORDS = ("paper", "residual", "stages", "stage:<i>", "pool", "fpn")
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
}


# torchvision's pyramid, told by name: importing torchvision.ops here would cost every `import visattn` a second.
PYRAMID, PYRAMID_OUTPUTS = "FeaturePyramidNetwork", "layer_blocks"


class Place(NamedTuple):
    """A module of the host at which a block may stand."""

    name: str
    placement: str  # which word or pattern chose it
    before: bool = False


def family(host: nn.Module) -> str:
    """Return the family of ``host`` or of the first model in it that has one, else ``other``."""
    return next((FAMILIES[type(m).__name__] for m in host.modules() if type(m).__name__ in FAMILIES), "other")


def modules(host: nn.Module) -> dict[str, nn.Module]:
    """Return the host's own modules by their own names: no blocks, and wrapped modules for wrappers."""
    added = {id(m) for w in host.modules() if isinstance(w, Attended) for m in w.attention.modules()}
    found = {}
    for path, module in host.named_modules():
        if path and id(module) not in added and not isinstance(module, Attended):
            found[site_name(path)] = module
    return found


def resolve(host: nn.Module, probe: Probe, entry: Entry, block: type[AbstractAttention]) -> list[Place]:
    """Return the places that ``entry`` names, before any check of what stands there."""
    places = _resolve(host, probe, entry.at, block)
    stages = entry.stages
    if stages is None and entry.at == "paper" and block.paper.get(family(host)) is not None:
        stages = block.paper[family(host)].stages if places and places[0].placement.startswith("paper") else None
    if stages is None:
        return places
    kept = [place for place in places if probe.seen.get(place.name) and probe.stage(place.name) in stages]
    if not kept:
        have = sorted({s for p in places if p.name in probe.seen and (s := probe.stage(p.name)) is not None})
        raise UsageError(f"no place at={entry.at!r} lies in stages {list(stages)}; valid: {have}")
    return kept


def _resolve(host: nn.Module, probe: Probe, at: At, block: type[AbstractAttention]) -> list[Place]:
    if not isinstance(at, str):
        return [Place(name, getattr(at, "__name__", "callable")) for name, m in modules(host).items() if at(name, m)]
    if issubclass(block, AbstractPool):
        return pool(host, probe) if at == "paper" else _named(host, probe, at)
    if at != "paper":
        return _named(host, probe, at)
    said = block.paper.get(family(host))
    if said is not None:
        try:
            found = _named(host, probe, said.at)
        except UsageError:
            found = []
        if found:
            return [Place(p.name, f"paper ({said.at}): {said.source}", p.before) for p in found]
    return residual(host, probe) or stages(host, probe)


def _named(host: nn.Module, probe: Probe, at: str) -> list[Place]:
    words: dict[str, Callable[[nn.Module, Probe], list[Place]]] = {
        "residual": residual, "stages": stages, "pool": pool, "fpn": fpn,
    }  # fmt: skip
    if at in words:
        found = words[at](host, probe)
        if not found and at == "fpn":
            raise UsageError(f"at='fpn' finds no pyramid in {type(host).__name__}: it is a detector's; valid: {FORMS}")
        if not found:
            raise UsageError(f"at={at!r} finds no place in {type(host).__name__}; valid: {FORMS}")
        return found
    if at.startswith("stage:"):
        by_stage = {probe.stage(place.name): place for place in stages(host, probe, first=0)}
        number = at.removeprefix("stage:")
        if not number.isdigit() or int(number) not in by_stage:
            raise unknown("place", at, [f"stage:{stage}" for stage in by_stage])
        return [Place(by_stage[int(number)].name, at)]
    return matching(host, at)


def residual(host: nn.Module, probe: Probe) -> list[Place]:
    """The end of each residual branch, before its addition."""
    own = modules(host)
    ends = [_outermost(own, names) for names in probe.residual_ends]
    return [Place(name, "residual") for name in dict.fromkeys(ends) if name]


def stages(host: nn.Module, probe: Probe, *, first: int = 1) -> list[Place]:
    """The last child module of each stage, from stride ``2^(first + 1)``."""
    own = modules(host)
    by_stage: dict[int, str] = {}
    for name in _features(host, probe) or _trunk(own, probe):
        stage = probe.stage(name)
        if stage is not None and stage >= first:
            by_stage[stage] = name
    places = []
    for _, name in sorted(by_stage.items()):
        same = [n for n in own if n.startswith(f"{name}.") and n in probe.seen and _same(probe, n, name)]
        last = _outermost(own, same)
        places.append(last if last and _has_children(own[name]) and _is_stage(own[name]) else name)
    return [Place(name, "stages") for name in places]


def _is_stage(module: nn.Module) -> bool:
    """A stage is a container, or it holds one: a block or a layer holds none that returns its output."""
    return is_container(module) or any(is_container(child) for child in module.children()) or _numbered(module)


def _numbered(module: nn.Module) -> bool:
    # timm's RegStage names its blocks b1, b2, ...
    kinds = {type(child) for child in module.children()}
    return len(kinds) == 1 and len(list(module.children())) >= 1 and not isinstance(module, nn.ModuleDict)


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


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
    return [Place(max(found)[1], "pool")] if found else []


def fpn(host: nn.Module, probe: Probe) -> list[Place]:
    """The last module of each output convolution of a pyramid (torchvision's), finest level first."""
    del probe
    own = modules(host)
    outputs = [f"{name}.{PYRAMID_OUTPUTS}" for name in own if type(own[name]).__name__ == PYRAMID]
    found = [f"{output}.{child}" for output in outputs for child, _ in own[output].named_children()]
    return [Place(child_of(name, own[name]) if is_container(own[name]) else name, "fpn") for name in found]


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


def is_container(module: nn.Module) -> bool:
    """Whether others index or iterate ``module``, so that nothing may stand in its place."""
    own_forward = type(module).forward is not nn.Module.forward
    return isinstance(module, nn.Sequential) or (isinstance(module, nn.ModuleList | nn.ModuleDict) and not own_forward)


def _outermost(own: dict[str, nn.Module], names: Iterable[str]) -> str | None:
    """The module nearest the root that is no container; the first called of several."""
    usable = [name for name in names if name in own and not is_container(own[name])]
    return min(usable, key=lambda name: name.count("."), default=None)


def _same(probe: Probe, name: str, other: str) -> bool:
    return bool(probe.seen[name].same) and probe.seen[name].same == probe.seen[other].same


def _features(host: nn.Module, probe: Probe) -> list[str]:
    """The modules at which timm says that its stages end, if it says."""
    info: Any = getattr(host, "feature_info", None)
    items: Sequence[Any] = getattr(info, "info", info) or []
    try:
        names = [str(item["module"]) for item in items]
    except (KeyError, TypeError, IndexError):
        return []
    return names if all(name in probe.seen and probe.is_map(name) for name in names) else []


def _trunk(own: dict[str, nn.Module], probe: Probe, inside: str = "", stage: int = -1) -> list[str]:
    """The host's path from image to features: children in calling order, opened where they span strides."""
    depth = inside.count(".") + 1 if inside else 0
    children = [
        n for n in probe.seen if n in own and n.count(".") == depth and n.startswith(f"{inside}." if inside else "")
    ]
    path: list[str] = []
    for name in sorted(children, key=lambda n: probe.seen[n].order):
        reached = probe.stage(name)
        holds_maps = any(n.startswith(f"{name}.") and probe.is_map(n) for n in probe.seen)
        if holds_maps and (reached is None or reached - stage >= 2):
            path += _trunk(own, probe, name, stage)
        elif reached is not None:
            path.append(name)
        stage = max([stage, *(s for n in path[-1:] if (s := probe.stage(n)) is not None)])
    return path


def child_of(name: str, module: nn.Module) -> str:
    """Name the child of a container that may be attended instead."""
    *_, (last, child) = list(module.named_children()) or [("", module)]
    path = f"{name}.{last}" if last else name
    return child_of(path, child) if is_container(child) and last else path


def clashes(module: nn.Module) -> bool:
    """Whether ``module`` owns a child or parameter that would share its key with the blocks."""
    return any(key.split(".")[0] == ATTENTION for key in module.state_dict()) or hasattr(module, ATTENTION)
