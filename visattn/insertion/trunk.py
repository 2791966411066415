"""The path from image to features through a host: its stages, and why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from visattn.insertion.probe import BACKBONE, Probe
from visattn.insertion.wrapper import ATTENTION, Attended, site_name

SHOWN = 4  # names in a refusal
# torchvision's pyramid, told by name: importing torchvision.ops here would cost every `import visattn` a second.
OWN = (ATTENTION, "base", "before", "insert", "remove")  # the names of a wrapper itself
PYRAMID = "FeaturePyramidNetwork"


def modules(host: nn.Module) -> dict[str, nn.Module]:
    """Return the host's own modules by their own names: no blocks, and wrapped modules for wrappers."""
    added = {id(m) for w in host.modules() if isinstance(w, Attended) for m in w.attention.modules()}
    found = {}
    for path, module in host.named_modules():
        if path and id(module) not in added and not isinstance(module, Attended):
            found[site_name(path)] = module
    return found


def is_container(module: nn.Module | None) -> bool:
    """Whether ``module`` is there for others to index or iterate, so that nothing may stand in its place."""
    if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    return type(module).forward in {nn.Module.forward, nn.Sequential.forward}


def child_of(name: str, module: nn.Module) -> str:
    """Name the child of a container that may be attended instead."""
    *_, (last, child) = list(module.named_children()) or [("", module)]
    path = f"{name}.{last}" if last else name
    return child_of(path, child) if is_container(child) and last else path


def clash(module: nn.Module) -> str | None:
    """Return the name of what ``module`` owns that its wrapper would hide from the host, if there is such a thing."""
    listed = isinstance(module, nn.Sequential | nn.ModuleList)  # their insert() builds, and is called in no forward
    return next((name for name in OWN if hasattr(module, name) and not (listed and name == "insert")), None)


def outermost(own: dict[str, nn.Module], names: Iterable[str], probe: Probe) -> str | None:
    """The module nearest the root that can be a site; the first called of several."""
    usable = [name for name in names if name in own and _usable(own[name]) and probe.seen[name].calls == 1]
    return min(usable, key=lambda name: name.count("."), default=None)


def _usable(module: nn.Module) -> bool:
    return not is_container(module) and clash(module) is None


def stage_ends(host: nn.Module, probe: Probe, *, first: int) -> list[str]:
    """Return the last child module of each stage, from stride ``2^(first + 1)``."""
    own = modules(host)
    by_stage: dict[int, str] = {}
    for name in _features(host, probe) or _trunk(own, probe, _root(own, probe)) or []:
        stage = probe.stage(name)
        if stage is not None and stage >= first:
            by_stage[stage] = name
    ends = []
    for _, name in sorted(by_stage.items()):
        same = [n for n in own if n.startswith(f"{name}.") and n in probe.seen and _same(probe, n, name)]
        last = outermost(own, same, probe)
        inner = last is not None and (is_container(own[name]) or any(True for _ in own[last].children()))
        ends.append(last if last and inner and _is_stage(own[name]) else name)
    return ends


def _is_stage(module: nn.Module) -> bool:
    """A stage is a container, or it holds one: a block or a layer holds none that returns its output."""
    return is_container(module) or any(is_container(child) for child in module.children()) or _numbered(module)


def _numbered(module: nn.Module) -> bool:
    # timm's RegStage names its blocks b1, b2, ...
    kinds = {type(child) for child in module.children()}
    return len(kinds) == 1 and len(list(module.children())) >= 1 and not isinstance(module, nn.ModuleDict)


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


def _root(own: dict[str, nn.Module], probe: Probe) -> str:
    """Where the path begins: in the backbone of a detector or of a segmentation network."""
    holds = BACKBONE in own and any(name.startswith(f"{BACKBONE}.") and probe.is_map(name) for name in probe.seen)
    return BACKBONE if holds else probe.root


def _trunk(own: dict[str, nn.Module], probe: Probe, inside: str, stage: int = -1) -> list[str] | None:
    """The host's path from image to features: children in calling order, opened where they span strides.

    None where it goes on as what is no map, as behind the stem of a transformer.
    """
    path: list[str] = []
    for name in _called(own, probe, inside):
        reached = probe.stage(name)
        holds_maps = any(n.startswith(f"{name}.") and probe.is_map(n) for n in probe.seen)
        if type(own[name]).__name__ == PYRAMID:
            break  # its levels have a word of their own
        if _layout(probe, name):
            return None
        if holds_maps and (reached is None or reached - stage >= 2):
            further = _trunk(own, probe, name, stage)
            if further is None:
                return None
            path += further
        elif reached is not None:
            path.append(name)
        stage = max([stage, *(s for n in path[-1:] if (s := probe.stage(n)) is not None)])
    return path


def _called(own: dict[str, nn.Module], probe: Probe, inside: str) -> list[str]:
    """Return the modules that ``inside`` called, itself or through a list of modules, in calling order."""
    names = [n for n in probe.seen if n in own and _caller(probe, n, inside) == inside and n != inside]
    return sorted(names, key=lambda n: probe.seen[n].order)


def _caller(probe: Probe, name: str, inside: str) -> str:
    """Return the nearest module around ``name`` that ran, or ``inside``."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in probe.seen or name == inside:
            return name
    return ""


def _layout(probe: Probe, name: str) -> str:
    """Return how a module lays out positions where not as ``(N, C, H, W)``; empty where it returns none."""
    shapes = probe.seen[name].outputs
    a, b = shapes[0], shapes[-1]
    if a is None or b is None or probe.is_map(name) or (a == b and not probe.fixed):
        return ""
    if len(a) == 3 and a[1] > 1:
        return "sequences (N, L, C)"
    return "channels last (N, H, W, C)" if len(a) == 4 and min(a[1], a[2]) > 1 and a[3] == b[3] else ""


def why_none(host: nn.Module, probe: Probe) -> str:
    """Return why ``host`` has no stages or residual branches, and which sites it does have."""
    own = modules(host)
    names = sorted((n for n in own if n in probe.seen), key=lambda n: probe.seen[n].order)
    layouts = [layout for name in names if "." not in name and (layout := _layout(probe, name))]
    layouts = layouts or [layout for name in names if (layout := _layout(probe, name))]
    works = [n for n in names if probe.is_map(n) and probe.seen[n].calls == 1 and _usable(own[n])]
    works = [n for n in works if not any(n.startswith(f"{outer}.") for outer in works)]
    shown = ", ".join(works[:SHOWN]) + (f", ... ({len(works)} in all)" if len(works) > SHOWN else "")
    reason = f"its features are {layouts[-1]}" if layouts else "no module returns (N, C, H, W) features in stages"
    return f"{reason}; sites that would work by name: {shown or 'none'}"
