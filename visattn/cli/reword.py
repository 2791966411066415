"""jsonargparse's errors as one line that names the value and the valid choices."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module

import lightning as L

from visattn.types import UsageError, unknown


def reword(error: BaseException) -> UsageError:
    """Return the user's mistake that is behind ``error``, in one line.

    jsonargparse tries every member of a union and reports all failures; a mistake of our own
    finding stands in the chain of causes, the others are read from its text.
    """
    for cause in _chain(error):
        if isinstance(cause, UsageError):
            return cause
    text = " ".join(str(error).split())
    option = re.search(r"Option '([^']+)' is not accepted", text) or re.search(
        r"""[Kk]ey ["']?([\w.]+)["']? is not expected""", text
    )
    option = option or re.search(r"Unrecognized arguments: -*([\w.]+)", text, re.IGNORECASE)
    required = re.search(r"""(?:arguments are required: |[Kk]ey ["'](?=[\w.]+["'] is required))([\w.]+)""", text)
    if required:
        return UsageError(
            f"config key '{required[1]}' is not set; pass it in the config, or as --data.{required[1]}=VALUE"
        )
    where = re.search(r"class_path '([^']+)'", text)
    if option:
        return unknown("config key", option[1], _keys(where[1] if where else None, option[1]))
    wrong = re.search(
        r'Parser key "([^"]+)": (?:Does not validate.*?)?(Expected .*?)(?:\. Got value: | Given value: )(.*?)( - |$)',
        text,
    )
    value = re.search(
        r'Parser key "([^"]+)": (.*?)\. Got value: (\S+)',
        text.rpartition("Parser key")[1] + text.rpartition("Parser key")[2],
    )
    if value:
        return UsageError(f"config key '{value[1]}' cannot be {value[3]}: {_types(value[2])}")
    if wrong:
        return UsageError(f"config key '{wrong[1]}' cannot be {wrong[3]}: {_types(wrong[2])}")
    return UsageError(_types(text)[:400])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _types(text: str) -> str:
    return re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)


def _keys(class_path: str | None, option: str) -> list[str]:
    """Return the keys that would be valid beside ``option``."""
    if class_path is not None:
        module, _, name = class_path.rpartition(".")
        return _parameters(getattr(import_module(module), name))
    if option.startswith("trainer."):
        return [f"trainer.{key}" for key in _parameters(L.Trainer)]
    return ["model", "data", "trainer", "seed_everything", "out", "ckpt_path", "test_after", "wandb", "config"]


def _parameters(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in {"self", "args", "kwargs"}]
