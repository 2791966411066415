"""Weight files: read them safely, write them atomically, tell them apart. What rebuilds a model is not here."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from visattn.types import UsageError, unknown

PICKLED = (".pth", ".pt", ".th", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "state_dict_ema", "network", "net", "weights")
PREFIXES = ("module.", "_orig_mod.", "network.", "model.")  # DDP, torch.compile, tasks of Lightning
NEARLY_ALL = 0.9  # a task may hold a loss weight beside its network
GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed|GLOBAL (\S+) whose module|unrecognized function (.+)")


def read_state_dict(path: str | Path, *, strip: bool = True) -> dict[str, Tensor]:
    """Read the tensors of a weights file onto the CPU; code in the file is never run.

    Args:
        path: a ``.safetensors`` file, or a ``.pth .pt .th .bin .ckpt`` file of ``torch.save``, which may
            hold the tensors under one of the usual keys (``state_dict``, ``model``, ``net``, ...).
        strip: take off prefixes that training tools add to every name; see ``strip_prefixes``.

    Raises:
        UsageError: no such file, a kind not known, damaged, empty, without tensors, or a pickle that
            needs more than tensors and plain values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.pt")
        >>> torch.save({"state_dict": {"module.weight": torch.zeros(2)}}, path)
        >>> read_state_dict(path)
        {'weight': tensor([0., 0.])}
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise unknown(f"kind of weights file {path}:", path.suffix, SUFFIXES)
    _check_readable(path)
    loaded = _guarded(path, load_file if path.suffix.lower() == ".safetensors" else _load_pickled)
    tensors = _unwrap(path, loaded)
    return strip_prefixes(tensors) if strip else tensors


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take ``module.``, ``_orig_mod.``, ``network.`` and ``model.`` off names that (nearly) all carry them.

    Names without the prefix stay as they are; where stripping would make two names one, none is changed.

    Example:
        >>> list(strip_prefixes({"network._orig_mod.weight": torch.zeros(1), "network._orig_mod.bias": torch.zeros(1)}))
        ['weight', 'bias']
    """
    names = list(tensors)
    while names:
        share = {prefix: sum(name.startswith(prefix) for name in names) / len(names) for prefix in PREFIXES}
        prefix = next((prefix for prefix in PREFIXES if share[prefix] >= NEARLY_ALL), None)
        shorter = [name.removeprefix(prefix) for name in names] if prefix else names
        if prefix is None or len(set(shorter)) < len(names):
            break
        names = shorter
    return dict(zip(names, tensors.values(), strict=True))


def save_state_dict(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``tensors`` as safetensors, all or nothing: a crash leaves the old file or the new one.

    Args:
        tensors: name to tensor, on any device; tensors that share memory are each written in full.
        path: the file, which ends in ``.safetensors``; missing folders are made.
        metadata: texts stored in the file's header.

    Raises:
        UsageError: another suffix, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.safetensors")
        >>> save_state_dict({"weight": torch.ones(2)}, path, {"block": "se"})
        >>> read_state_dict(path)
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise unknown(f"kind of weights file to write {path}:", path.suffix, [".safetensors"])
    # to bytes, then written here: safetensors' own writer makes files that only their owner can read
    data = save({name: _detached(tensor) for name, tensor in tensors.items()}, dict(metadata) if metadata else None)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, types, shapes and values, whatever the order of names and the device.

    Example:
        >>> a, b = torch.zeros(2), torch.ones(3)
        >>> digest({"a": a, "b": b}) == digest({"b": b, "a": a}) != digest({"a": b, "b": a})
        True
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # as bytes: numpy has no bfloat16
        total.update(_detached(tensor).reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        UsageError: the file is missing or cannot be read.

    Example:
        >>> sha256("no/such/file")
        Traceback (most recent call last):
        visattn.types.UsageError: cannot read no/such/file: No such file or directory
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _detached(tensor: Tensor) -> Tensor:
    # a copy: safetensors refuses tensors that share memory
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UsageError(f"cannot read weights file {path}: {error.strerror}") from error
    if not start:
        raise UsageError(f"weights file {path} is empty (0 bytes)")
    if start.startswith(b"version https://git-lfs"):
        raise UsageError(f"weights file {path} is a Git LFS pointer, not the weights: run 'git lfs pull' in its folder")


def _load_pickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old pickle protocols and TorchScript: they fail below, or do not matter
        return torch.load(path, map_location="cpu", weights_only=True)


def _guarded(path: Path, load: Callable[[Path], Any]) -> Any:
    """Call ``load(path)`` and turn whatever a foreign file makes it raise into one line."""
    try:
        return load(path)
    except Exception as error:  # damaged files raise anything: EOFError, KeyError, RuntimeError, OSError, ...
        text = str(error)
        found = GLOBAL.search(text)
        if found:
            blocked = next(group for group in found.groups() if group)
            raise UsageError(
                f"weights file {path} was refused: its pickle asks for '{blocked}', and visattn loads tensors and "
                "plain values only; save the model's state_dict(), best as .safetensors"
            ) from error
        if "TorchScript" in text:
            raise UsageError(
                f"weights file {path} is a TorchScript archive, which can hold code; save its state_dict() instead"
            ) from error
        raise UsageError(
            f"weights file {path} ({path.stat().st_size} bytes) is damaged, cut short or not a {path.suffix} file "
            f"({type(error).__name__})"
        ) from error


def _unwrap(path: Path, loaded: Any) -> dict[str, Tensor]:
    for _ in range(len(WRAPPERS)):  # not for ever: a pickle can hold itself
        inner = [
            loaded[key] for key in WRAPPERS if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping)
        ]
        loaded = inner[0] if inner else loaded
    if not isinstance(loaded, Mapping):
        raise UsageError(f"weights file {path} holds a {type(loaded).__name__}, not a dict of tensors")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        shown = ", ".join(str(key) for key in list(loaded)[:8]) or "none"
        raise UsageError(f"weights file {path} holds no tensors; its keys: {shown}; looked in: {', '.join(WRAPPERS)}")
    return tensors
