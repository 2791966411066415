"""JSON read with errors that name the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visattn.types import UsageError


class Document:
    """A JSON object; what is missing or of another type than asked for is a UsageError in one line.

    Args:
        data: the parsed JSON.
        where: what errors call it: the file, then the keys that lead here.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise UsageError(f"{where} must be a JSON object, got {type(data).__name__}")
        self.data: dict[str, Any] = data
        self.where = where

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read the file ``path``."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{path} cannot be read as JSON: {' '.join(str(error).split())}") from error

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self.data.get(key)
        if value is None:
            if default is _REQUIRED:
                raise UsageError(f"{self.where} lacks the key '{key}'; it has: {', '.join(self.data) or 'none'}")
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"{self.where}: '{key}' has the wrong type, {type(value).__name__}")
        return value

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        return self._get(key, str, default)

    def name(self, key: str) -> str:
        """Return a string that must be there."""
        return self._get(key, str, _REQUIRED)

    def integer(self, key: str, default: int | None = None) -> int | None:
        """Return an integer."""
        return self._get(key, int, default)

    def number(self, key: str, default: float = math.nan) -> float:
        """Return a number; nan where it is missing."""
        return float(self._get(key, (int, float), default))

    def node(self, key: str) -> Document:
        """Return an object, empty where it is missing."""
        return Document(self._get(key, dict, {}), f"{self.where}: {key}")

    def nodes(self, key: str, *, required: bool = False) -> list[Document]:
        """Return a list of objects."""
        items = self._get(key, list, _REQUIRED if required else [])
        return [Document(item, f"{self.where}: {key}[{index}]") for index, item in enumerate(items)]

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list, each item as a string."""
        return tuple(str(item) for item in self._get(key, list, []))

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of integers that must be there."""
        items = self._get(key, list, _REQUIRED)
        if any(not isinstance(item, int) or isinstance(item, bool) for item in items):
            raise UsageError(f"{self.where}: '{key}' must be a list of integers, got {items}")
        return tuple(items)

    def numbers(self) -> dict[str, float]:
        """Return those of its values that are numbers."""
        return {
            key: float(value)
            for key, value in self.data.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def children(self) -> Iterator[tuple[str, Document]]:
        """Yield each key with its object."""
        for key in self.data:
            yield key, self.node(key)


_REQUIRED = object()
