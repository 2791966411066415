"""The blocks, one a file. A file here is a block: its name is the block's name everywhere.

Listing the blocks reads the folder and imports no torch; a block's file is imported when it is built.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from visattn.types import UsageError, unknown

if TYPE_CHECKING:
    from visattn.attention._contract import AbstractAttention

__all__ = ["block", "block_class", "blocks"]


def blocks() -> list[str]:
    """Return the names of all blocks, sorted.

    Example:
        >>> "cbam" in blocks()
        True
    """
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def block_class(name: str) -> type[AbstractAttention]:
    """Return the class of block ``name``.

    Raises:
        UsageError: no block has this name.
    """
    if name not in blocks():
        raise unknown("block", name, blocks())
    module = import_module(f"{__name__}.{name}")
    found: list[Any] = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    (only,) = found
    return cast("type[AbstractAttention]", only)


def block(name: str, channels: int, **keywords: Any) -> AbstractAttention:
    """Build block ``name`` for features of ``channels`` channels.

    Args:
        name: a name from ``blocks()``.
        channels: ``C``, the channels of the features attended to.
        **keywords: the block's own keywords; their defaults are the paper's.

    Raises:
        UsageError: an unknown name or keyword, or a value that the block refuses.

    Example:
        >>> block("se", 64, reduction=8).channels
        64
    """
    cls = block_class(name)
    valid = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    hints = get_type_hints(cls.__init__)
    for keyword, value in {"channels": channels, **keywords}.items():
        if keyword not in {"channels", *valid}:
            raise unknown(f"keyword of {name}", keyword, valid)
        if not _fits(value, hints[keyword]):
            raise UsageError(f"{keyword} of {name} must be {_shown(hints[keyword])}, got {value!r}")
    try:
        return cls(channels, **keywords)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}({channels}): {error}") from error


def _fits(value: object, hint: Any) -> bool:
    """Whether ``value`` has a type that ``hint`` names; a block checks its words (``Literal``) itself."""
    if get_origin(hint) is Literal:
        return True
    kinds = {int: Integral, float: Real}  # numpy's numbers too; a bool is no count
    options = tuple(kinds.get(option, option) for option in get_args(hint) or (hint,))
    return bool in options if isinstance(value, bool) else isinstance(value, options)


def _shown(hint: Any) -> str:
    names = [getattr(option, "__name__", str(option)) for option in get_args(hint) or (hint,)]
    return " or ".join(names).replace("NoneType", "None")
