"""CSV and JSON files of a run folder, written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none if it is absent."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=indent) + "\n")
    part.replace(path)
