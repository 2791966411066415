"""What is known of each block without importing torch: its file's words and the figures that ship with them."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FIGURES = FOLDER / "figures.json"
_FORMS = {"AbstractGate": "gate", "AbstractTransform": "transform", "AbstractPool": "pool"}
_SECTION = re.compile(r"^(Shapes|Cost|Args|Raises|Example|References):$", re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    """One block, as its docstring and the measured figures tell it."""

    name: str
    title: str  # the class
    family: str
    form: str  # gate, transform or pool
    sections: Mapping[str, str]  # heading to text; "" is what stands before the first
    figures: Mapping[str, Any]  # empty where nothing was measured yet; keys as in ``measure_blocks``

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.sections[""].partition("\n")[0]

    @property
    def paper(self) -> str:
        """The first reference in short, such as ``Woo et al. 2018``; ``-`` without one."""
        found = re.match(r"(?P<who>[^\"]+?),?\s+\".*?(?P<year>(?:19|20)\d\d)", self.sections["References"], re.DOTALL)
        return f"{found['who']} {found['year']}" if found else "-"

    @property
    def link(self) -> str | None:
        """The first address in the references."""
        found = re.search(r"https://[^\s,;]+[^\s,;.]", self.sections["References"])
        return found[0] if found else None

    def figure(self, key: str, form: str = "{}") -> str:
        """Return a measured figure as ``form`` writes it, ``-`` where there is none."""
        value = self.figures.get(key)
        return "-" if value is None else form.format(value)

    @property
    def maps(self) -> str:
        """The maps' names, ``-`` where none is known."""
        return ", ".join(self.figures.get("maps", {})) or "-"

    @property
    def place(self) -> str:
        """Where the paper puts the block in the first family of hosts that it names."""
        for host, place in self.figures.get("places", {}).items():
            stages = f", stages {', '.join(map(str, place['stages']))}" if place["stages"] else ""
            return f"{host}: {place['at']}{stages}"
        return "-"


def facts(name: str) -> Facts:
    """Read block ``name``'s file and figures.

    Example:
        >>> facts("se").title, facts("se").paper
        ('SE', 'Hu et al. 2018')
    """
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    (node,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    pieces = _SECTION.split(ast.get_docstring(node) or "")
    sections = dict(zip(["", *pieces[1::2]], (inspect.cleandoc(text).strip() for text in pieces[::2]), strict=True))
    form = next((_FORMS[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in _FORMS), "-")
    return Facts(
        name, node.name, _family(node), form, {"References": "", **sections}, figures()["blocks"].get(name, {})
    )


@cache
def figures() -> dict[str, Any]:
    """Return what ``visattn bench blocks`` measured when this version was made."""
    if not FIGURES.is_file():
        return {"blocks": {}}
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def _family(node: ast.ClassDef) -> str:
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == "family":
            return str(line.value.value) if isinstance(line.value, ast.Constant) else "-"
    return "-"
