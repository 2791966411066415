"""One way to say which blocks go where: the same in Python, YAML and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from visattn.attention import block_class
from visattn.types import INITS, AttentionSpec, Init, UsageError, unknown

At: TypeAlias = str | Callable[[str, nn.Module], bool]

NOTHING = "none"
NATIVE = "native"  # the one place where no block is a change: the host's own attention is taken out

FORMS = (
    "a block's name, {block: NAME, at:, stages:, init:, add:, <keywords of the block>}, "
    "a mapping from places to these, or a list of these"
)


@dataclass(frozen=True)
class Entry:
    """One block, or none where the host's own attention is taken out, and its places, as parsed from a spec."""

    block: str
    at: At = "paper"
    stages: tuple[int, ...] | None = None
    init: Init = "identity"
    add: bool = False
    keywords: dict[str, Any] = field(default_factory=dict)


def parse(
    spec: AttentionSpec,
    *,
    at: At = "paper",
    stages: Sequence[int] | None = None,
    init: Init = "identity",
    add: bool = False,
) -> list[Entry]:
    """Return the entries of ``spec``; what an entry leaves open is taken from the keywords.

    Raises:
        UsageError: an unknown form, block, init or stage.

    Example:
        >>> [(entry.block, entry.at) for entry in parse({"layer3.*.bn3": "eca", "pool": "additive"})]
        [('eca', 'layer3.*.bn3'), ('additive', 'pool')]
        >>> parse(None), parse("none")
        ([], [])
        >>> [(entry.block, entry.at) for entry in parse({"native": None})]
        [('none', 'native')]
    """
    if spec is None or spec == NOTHING:
        return [Entry(NOTHING, at, _stages(stages))] if at == NATIVE else []
    outer: dict[str, Any] = {"at": at, "stages": stages, "init": init, "add": add}
    if isinstance(spec, str):
        return [_entry({"block": spec}, outer)]
    if isinstance(spec, Mapping):
        if "block" in spec:
            if spec["block"] is None or spec["block"] == NOTHING:
                for key in spec.keys() - {"block", *outer}:
                    raise unknown("keyword of no attention", key, ["at", "stages"])
                return parse(None, at=spec.get("at", at), stages=spec.get("stages", stages))
            return [_entry(spec, outer)]
        return [entry for place, inner in spec.items() for entry in parse(inner, **{**outer, "at": place})]
    if isinstance(spec, list | tuple):
        return [entry for inner in spec for entry in parse(inner, **outer)]
    raise UsageError(f"attention spec {spec!r} is {type(spec).__name__}; valid: {FORMS}")


def label(spec: AttentionSpec) -> str:
    """Return a short name of ``spec`` for tables and folders, ``none`` for no attention.

    Example:
        >>> label(None), label("cbam"), label({"block": "se", "reduction": 8})
        ('none', 'cbam', 'se(reduction=8)')
    """
    entries = parse(spec)
    return "+".join(dict.fromkeys(_entry_label(entry) for entry in entries)) or "none"


def _entry_label(entry: Entry) -> str:
    details = dict(entry.keywords)
    if entry.at != "paper":
        details["at"] = entry.at
    if entry.stages is not None:
        details["stages"] = "".join(map(str, entry.stages))
    inside = ",".join(f"{key}={value}" for key, value in details.items())
    return f"{entry.block}({inside})" if inside else entry.block


def _entry(values: Mapping[str, Any], outer: Mapping[str, Any]) -> Entry:
    known = {**outer, **{key: value for key, value in values.items() if key in {"block", *outer}}}
    name = known["block"]
    if not isinstance(name, str):
        raise UsageError(f"block {name!r} is {type(name).__name__}; valid: a block's name")
    block_class(name)
    if known["init"] not in INITS:
        raise unknown("init", known["init"], INITS)
    if not (callable(known["at"]) or isinstance(known["at"], str)):
        raise UsageError(f"at={known['at']!r} is {type(known['at']).__name__}; valid: a word, a pattern or a callable")
    keywords = {key: value for key, value in values.items() if key not in {"block", *outer}}
    for key in keywords:
        if not isinstance(key, str) or key == "channels":
            raise UsageError(
                f"keyword {key!r} of {name} is not valid; valid: {', '.join(outer)}, keywords of the block"
            )
    return Entry(name, known["at"], _stages(known["stages"]), known["init"], bool(known["add"]), keywords)


def _stages(stages: Sequence[int] | int | None) -> tuple[int, ...] | None:
    if stages is None:
        return None
    numbers: list[Any] = list(stages) if isinstance(stages, list | tuple | range) else [stages]
    for number in numbers:
        if not isinstance(number, int) or not 0 <= number <= 5:
            raise UsageError(f"stage {number!r} is not valid; valid: 0 (stride 2) to 5 (stride 64); a list of these")
    return tuple(numbers)
