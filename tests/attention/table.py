"""The one table of blocks: the rows of every file in ``rows/``."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from cases import Case, Live

from visattn.attention import block_class
from visattn.attention._contract import AbstractPool


def _file(name: str) -> ModuleType:
    """Load a file of rows; ``nonlocal.py`` cannot be imported by a statement."""
    spec = spec_from_file_location(f"rows_of_{name}", Path(__file__).parent / "rows" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(name: str) -> list[Case]:
    """Return the rows of block ``name``."""
    found: list[Case] = _file(name).ROWS
    return found


NAMES = sorted(file.stem for file in (Path(__file__).parent / "rows").glob("[!_]*.py"))
ALL = [case for name in NAMES for case in rows(name)]
POOLS = [case for case in ALL if issubclass(block_class(case.name), AbstractPool)]
CASES = [case for case in ALL if case not in POOLS]
# Block, keywords that it refuses at 8 channels, and what the refusal says.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (name, keywords, said) for name in NAMES for keywords, said in getattr(_file(name), "REFUSED", [])
]
LIVE: list[Live] = [live for name in NAMES for live in getattr(_file(name), "LIVE", [])]
