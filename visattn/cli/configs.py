"""Find a config by path, or by its name among those that ship with the package."""

from __future__ import annotations

from pathlib import Path

import visattn
from visattn.types import UsageError

PACKAGE = Path(visattn.__file__).parent


def shipped() -> Path:
    """Return the folder of the shipped configs: inside the wheel, or at the top of a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def find_config(name: str) -> Path:
    """Return the file that ``name`` means: a path, or a shipped config with or without ``configs/`` and ``.yaml``.

    Raises:
        UsageError: there is no such file.
    """
    asked = Path(name)
    if asked.is_file():
        return asked
    bare = name.removeprefix("configs/").removesuffix(".yaml")
    found = shipped() / f"{bare}.yaml"
    if found.is_file():
        return found
    valid = sorted(str(path.relative_to(shipped()).with_suffix("")) for path in shipped().rglob("*.yaml"))
    raise UsageError(f"config '{name}' does not exist; valid: a file, or one of {', '.join(valid)}")
