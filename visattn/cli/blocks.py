"""``visattn blocks``: the blocks, read from their files without torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import visattn.attention
from visattn.cli.parser import Parser
from visattn.types import unknown

FAMILIES = {"AbstractGate": "gate", "AbstractTransform": "transform", "AbstractPool": "pool"}


def run(args: Sequence[str]) -> int:
    """Print the table of blocks, or one block's docstring."""
    parser = Parser("blocks", "list the attention blocks, or describe one")
    parser.add_argument("block", nargs="?", help="a block's name")
    name = parser.parse_args(args).block
    names = visattn.attention.blocks()
    if name is not None and name not in names:
        raise unknown("block", name, names)
    if name is not None:
        node = _class(name)
        print(f"{node.name}  ({FAMILIES[_base(node)]})\n\n{ast.get_docstring(node)}")
        return 0
    width = max(map(len, names))
    print(f"{'block':<{width}}  family     what it does")
    for each in names:
        node = _class(each)
        first = (ast.get_docstring(node) or "").splitlines()[0]
        print(f"{each:<{width}}  {FAMILIES[_base(node)]:<9}  {first}")
    return 0


def _class(name: str) -> ast.ClassDef:
    path = Path(visattn.attention.__file__).parent / f"{name}.py"
    (node,) = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and _base(n) in FAMILIES]
    return node


def _base(node: ast.ClassDef) -> str:
    return next((base.id for base in node.bases if isinstance(base, ast.Name)), "")
