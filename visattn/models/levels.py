"""The maps of a host that a pyramid can stand on, found by their strides; and what of the host it never needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from visattn.heads.pyramid import Level, features
from visattn.insertion.places import stages
from visattn.insertion.probe import Probe, probe
from visattn.insertion.trunk import is_container, modules
from visattn.insertion.wrapper import site_name
from visattn.maps.capture import evaluating
from visattn.types import UsageError

NEEDED = (8, 16, 32)
WORKS = "CNNs whose maps are (N, C, H, W) at strides 8, 16 and 32, such as resnet18, convnext_tiny, efficientnet_b0"


def find_levels(host: nn.Module, finest: int) -> list[Level]:
    """Return the end of each stage of ``host`` from stride ``finest`` (4, or 8 where it has no 4) to 32.

    The stages are those of ``at="stages"``. Strides are measured, never told from an index: dla34 and
    the VGGs count theirs from another start.

    Raises:
        UsageError: the host has no such maps, with the reason.

    Example:
        >>> import timm
        >>> [(level.name, level.stride) for level in find_levels(timm.create_model("test_resnet"), 8)]
        [('layer2.0', 8), ('layer3.0', 16), ('layer4.0', 32)]
    """
    try:
        record = probe(host)
    except UsageError as error:
        raise _refusal(host, str(error).split("; pass example=")[0].removesuffix(".")) from error
    last = _channels_last(host, record)
    if last:
        raise _refusal(host, f"the channels of '{last}' are its last axis")
    levels = {}
    for place in stages(host, record):
        stage, shape = record.stage(place.name), record.seen[place.name].outputs[-1]
        assert stage is not None
        assert shape is not None  # a place of a stage is a map
        stride = 2 ** (stage + 1)
        if finest <= stride <= NEEDED[-1]:
            if shape[2] * stride != record.height:
                found = f"'{place.name}' is {shape[2]} high for {record.height} pixels, which is no whole stride"
                raise _refusal(host, f"{found}: it pads less than it cuts")
            levels[stride] = Level(_end(host, record, place.name), stride, shape[1])
    missing = [stride for stride in NEEDED if stride not in levels]
    if missing:
        have = ", ".join(map(str, sorted(levels))) or "none"
        raise _refusal(host, f"its maps have strides {have} and lack {', '.join(map(str, missing))}")
    return [levels[stride] for stride in sorted(levels)]


def _end(host: nn.Module, record: Probe, name: str) -> str:
    """Return the last module of its stage that returns the same tensor as ``name``, as the stage leaves it.

    An activation in place returns what the norm before it returned. Containers are passed over:
    where a host checkpoints its gradients, nobody calls them.
    """
    own = modules(host)
    same = [n for n in own if n in record.seen and record.seen[n].same == record.seen[name].same]
    top = min((n for n in same if f"{name}.".startswith(f"{n}.")), key=len)
    inside = [n for n in same if f"{n}.".startswith(f"{top}.") and not is_container(own[n])]
    return max(inside, key=lambda n: record.seen[n].order)


def _refusal(host: nn.Module, reason: str) -> UsageError:
    return UsageError(f"{type(host).__name__} cannot carry a detector: {reason}; valid: {WORKS}")


def _channels_last(host: nn.Module, record: Probe) -> str | None:
    """Name a place of timm's that returns ``(N, H, W, C)``: modules inside it may look like maps and are none."""
    info: Any = getattr(host, "feature_info", None)
    for item in getattr(info, "info", info) or []:
        seen = record.seen.get(str(item.get("module")) if isinstance(item, dict) else "")
        if seen is not None and seen.outputs[0] is not None and seen.outputs[-1] is not None:
            small, large = seen.outputs[0], seen.outputs[-1]
            if len(small) == 4 and small[3] == large[3] and small[1] != large[1]:
                return str(item["module"])
    return None


def unused(host: nn.Module, levels: Sequence[Level]) -> list[str]:
    """Return the modules of ``host`` that no level depends on: the classifier, layers behind the last level.

    Raises:
        UsageError: something behind a level changes its map in place.
    """
    used = _used(host, levels)
    found: list[str] = []
    for path, module in host.named_modules():
        parameters = list(module.parameters())
        inside = any(path.startswith(f"{name}.") for name in found)
        if path and parameters and not inside and not any(id(p) in used for p in parameters):
            found.append(path)
    return [site_name(path) for path in found]


def drop(host: nn.Module, names: Sequence[str]) -> None:
    """Replace the modules ``names`` of ``host`` by ``nn.Identity``.

    Their parameters would get no gradient, and distributed training would stop. Their keys are
    ignored when a state dict is loaded, so that a classifier's checkpoint fits, strictly.
    """
    for name in names:
        parent, _, child = name.rpartition(".")
        host.get_submodule(parent)._modules[child] = nn.Identity()
    ignore = partial(_forget, tuple(f"{name}." for name in names))
    host.register_load_state_dict_pre_hook(ignore)  # type: ignore[no-untyped-call]


def _used(host: nn.Module, levels: Sequence[Level]) -> set[int]:
    """Return the ids of the parameters that some level depends on."""
    parameters = list(host.parameters())
    trained = [p.requires_grad for p in parameters]
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)).to(parameters[0])
    try:
        host.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), evaluating(host), torch.enable_grad():
            total = torch.stack([x.sum() for x in _kept_maps(host, levels, images)]).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    finally:
        for parameter, was in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was)
    return {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _kept_maps(host: nn.Module, levels: Sequence[Level], images: Tensor) -> list[Tensor]:
    """Return the maps of all levels; refuse one that something behind it changes in place."""
    versions: dict[str, int] = {}
    names = [level.name for level in levels]

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            del module, args
            versions[name] = output._version

        return hook

    handles = [host.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        maps = features(host, names, images)
    finally:
        for handle in handles:
            handle.remove()
    for name, x in zip(names, maps, strict=True):
        if x._version != versions[name]:
            raise _refusal(host, f"what follows '{name}' overwrites its map in place")
    return maps


def _forget(gone: tuple[str, ...], module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    del module
    for key in [key for key in state if key.startswith(tuple(f"{prefix}{name}" for name in gone))]:
        del state[key]
