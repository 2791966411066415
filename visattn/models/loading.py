"""Load a weights file into a model, and say what matched, what is missing and what was left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from visattn.insertion.wrapper import ATTENTION, attended
from visattn.types import UsageError, unknown
from visattn.weights import read_state_dict, strip_prefixes

COUNTER = "num_batches_tracked"  # files from before torch 0.4.1 lack it, and nothing in eval mode reads it
SHOWN = 6


class Mismatch(NamedTuple):
    """A name that the file and the model share, with two shapes."""

    name: str
    file: tuple[int, ...]
    model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.file} in the file, {self.model} in the model"


@dataclass(frozen=True)
class LoadReport:
    """What ``load_weights`` did with each name; names are the model's, after renaming.

    Attributes:
        path: the file read.
        matched: loaded from the file.
        missing: tensors of the host that the file lacks; they keep their values.
        left_over: tensors of the file that the model lacks.
        mismatched: names in both with different shapes; not loaded.
        attention: tensors of inserted blocks that the file lacks; they keep their values.
        head: those of ``mismatched`` that are a classifier of another number of classes.
        hint: a renaming that would match more, or nothing.
    """

    path: Path
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.matched)} tensors matched"]
        rows: list[tuple[str, Iterable[object]]] = [
            ("missing in the file", self.missing),
            ("left over in the file", self.left_over),
            ("of another shape", [each for each in self.mismatched if each.name not in self.head]),
            (
                "of a classifier of other classes, not loaded",
                [each for each in self.mismatched if each.name in self.head],
            ),
            ("of inserted attention, kept as it was", self.attention),
        ]
        lines += [f"  {len(names)} {what}: {_shortened(names)}" for what, found in rows if (names := list(found))]
        return "\n".join([*lines, f"  {self.hint}"] if self.hint else lines)


def load_weights(
    model: nn.Module, path: str | Path, rename: Mapping[str, str] | None = None, minimum: float = 0.95
) -> LoadReport:
    """Load the weights of a file into ``model``; everything is checked before anything changes.

    Tensors of inserted attention blocks may be missing, and a classifier of another number of
    classes is left as it is: neither counts against ``minimum``, both are reported.

    Args:
        model: any model, with or without attention, on any device.
        path: a file that ``visattn.weights.read_state_dict`` takes; prefixes of training tools are seen through.
        rename: prefix of the file's names to the model's, as in ``{"linear.": "fc."}``; the longest one wins.
        minimum: the least share (0 to 1) of the host's tensors that must match; 0 takes any file.

    Raises:
        UsageError: an unreadable file, a prefix that no name has, two names made one, or too few matches.

    Example:
        >>> import tempfile
        >>> from visattn.weights import save_state_dict
        >>> path = Path(tempfile.mkdtemp(), "a.safetensors")
        >>> save_state_dict(nn.Linear(3, 2).state_dict(), path)
        >>> load_weights(nn.Linear(3, 2), path).matched
        ['weight', 'bias']
    """
    path = Path(path)
    if not 0 <= minimum <= 1:
        raise UsageError(f"minimum must lie between 0 and 1, got {minimum}")
    own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    tensors = _renamed(path, _best(read_state_dict(path, strip=False), own, rename or {}), rename or {})
    added = _attention_names(model, own)
    report = _compare(path, own, tensors, added)
    exempt = added.union(report.head)
    expected = [name for name in own if name not in exempt and not name.endswith(COUNTER)]
    matched = set(report.matched).intersection(expected)
    # a model that is all head still takes no file that shares nothing with it
    if minimum and (len(matched) < minimum * len(expected) or not report.matched):
        raise UsageError(_refusal(report, len(matched), len(expected), minimum))
    model.load_state_dict({name: tensors[name] for name in report.matched}, strict=False)
    return report


def _best(raw: dict[str, Tensor], own: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    """Strip prefixes, unless the model itself has them (a task whose child is ``network``)."""
    stripped = strip_prefixes(raw)
    counts = [sum(_apply(name, rename) in own for name in names) for names in (stripped, raw)]
    return stripped if counts[0] >= counts[1] else raw


def _apply(name: str, rename: Mapping[str, str]) -> str:
    prefix = max((prefix for prefix in rename if name.startswith(prefix)), key=len, default=None)
    return name if prefix is None else rename[prefix] + name.removeprefix(prefix)


def _renamed(path: Path, tensors: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    for prefix in rename:
        if not any(name.startswith(prefix) for name in tensors):
            raise unknown(f"prefix to rename in {path}:", prefix, _heads(tensors))
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = _apply(name, rename)
        if new in result:
            raise UsageError(f"renaming makes two tensors of {path} one: '{new}' (the second was '{name}')")
        result[new] = tensor
    return result


def _compare(path: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], added: set[str]) -> LoadReport:
    report = LoadReport(path, left_over=[name for name in tensors if name not in own])
    for name, tensor in own.items():
        if name not in tensors:
            (report.attention if name in added else report.missing).append(name)
        elif tensors[name].shape == tensor.shape:
            report.matched.append(name)
        else:
            report.mismatched.append(Mismatch(name, tuple(tensors[name].shape), tuple(tensor.shape)))
    report.head.extend(_head(each for each in report.mismatched if each.name not in added))
    return replace(report, hint=_hint(own, tensors, report))


def _attention_names(model: nn.Module, own: Iterable[str]) -> set[str]:
    # by walking the wrappers, never by substring: a host may have a child called "attention"
    prefixes = tuple(f"{site}.{ATTENTION}.".removeprefix(".") for site in attended(model))
    return {name for name in own if prefixes and name.startswith(prefixes)}


def _head(mismatched: Iterable[Mismatch]) -> list[str]:
    """Return the mismatches that come from another number of classes: the last one's, and its twins'.

    A classifier's weight is a matrix or a 1x1 convolution whose first axis alone differs. Auxiliary
    classifiers differ by the same two numbers.
    """
    candidates = [
        each
        for each in mismatched
        if len(each.file) == len(each.model) >= 1
        and each.file[1:] == each.model[1:]
        and all(side == 1 for side in each.model[2:])
    ]
    weights = [each for each in candidates if len(each.model) > 1]
    if not weights:
        return []
    classes = (weights[-1].file[0], weights[-1].model[0])
    modules = {each.name.rpartition(".")[0] for each in weights if (each.file[0], each.model[0]) == classes}
    return [each.name for each in candidates if each.name.rpartition(".")[0] in modules]


def _hint(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], report: LoadReport) -> str:
    """Name a module of the file that looks like one the model misses: its names end alike and its shapes agree."""

    def by_module(names: Iterable[str], source: Mapping[str, Tensor]) -> dict[str, set[tuple[str, tuple[int, ...]]]]:
        modules: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
        for name in names:
            module, _, last = name.rpartition(".")
            if last != COUNTER:
                modules.setdefault(module, set()).add((last, tuple(source[name].shape)))
        return modules

    missing, left_over = by_module(report.missing, own), by_module(report.left_over, tensors)
    pairs = [
        (there, here) for there, a in left_over.items() for here, b in missing.items() if a == b and there and here
    ]
    # one pair, or it would be a guess
    return f"perhaps rename={{'{pairs[0][0]}.': '{pairs[0][1]}.'}}" if len(pairs) == 1 else ""


def _refusal(report: LoadReport, matched: int, expected: int, minimum: float) -> str:
    share = matched / expected if expected else 0.0
    parts = [
        f"{report.path} matches {matched} of the model's {expected} tensors ({share:.0%}, the minimum is {minimum:.0%})"
    ]
    if report.mismatched:
        parts.append(f"of another shape: {_shortened(report.mismatched, 2)}")
    if report.missing:
        parts.append(f"missing: {_shortened(report.missing, 3)}")
    if report.left_over:
        parts.append(f"left over: {_shortened(report.left_over, 3)}")
    parts.append(report.hint or "rename= maps prefixes of names, minimum=0 loads what matches")
    return "; ".join(parts)


def _heads(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] + "." for name in names))


def _shortened(names: Iterable[object], shown: int = SHOWN) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:shown]) + (f", ... ({len(texts)} in all)" if len(texts) > shown else "")
