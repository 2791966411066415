"""The house rules: files that must be there, layers, light imports, sizes, bounds that are really tested."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted([*(ROOT / "visattn").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]

TOP = [
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "mkdocs.yml",
    "constraints-oldest.txt",
    ".pre-commit-config.yaml",
    ".ci/run",
    "visattn/py.typed",
    "configs",
    "scripts",
    "weights/README.md",
    "weights/index.toml",
    "docs/index.md",
    "docs/decisions.md",
]
HEAVY = ["lightning", "wandb", "albumentations", "timm", "torchvision.models.detection"]
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def fresh(*args: str) -> subprocess.CompletedProcess[str]:
    """Run this Python on ``args`` in a process of its own, with the repository to import from."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", TOP)
def test_top_level_is_complete(name: str) -> None:
    assert (ROOT / name).exists()


def test_ci_can_be_started() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 60


def test_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_pre_commit_needs_no_network() -> None:
    repos = re.findall(r"^ *- repo: *(\S+)", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert set(repos) == {"local"}


def test_imports_follow_the_layers() -> None:
    pytest.importorskip("importlinter", reason="import-linter is a tool of the extra `dev`")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = fresh("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_is_light() -> None:
    done = fresh("-c", f"import sys, visattn; print([name for name in {HEAVY} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_file_has_a_subject(name: str) -> None:
    assert not set(Path(name).with_suffix("").parts) & {"utils", "util", "helpers", "common", "misc"}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring, which is as long as it needs to be."""
    first = function.body[0]
    docstring = first if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None
    return span(function) - (span(docstring) if docstring else 0)


def span(node: ast.stmt) -> int:
    """Return how many lines a statement takes."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("name", NAMES)
def test_file_and_functions_are_short(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {f.name: code_lines(f) for f in functions if code_lines(f) > LONGEST_FUNCTION} == {}


def requirements(extras: list[str]) -> dict[str, str]:
    """Return the lower bound of each package the project and these ``extras`` ask for."""
    listed = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        listed += PROJECT["project"]["optional-dependencies"][extra]
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)", entry) for entry in listed)
    return {m[1].lower(): m[2] for m in found if m}


def version(text: str) -> tuple[int, ...]:
    """Return ``1.2`` and ``1.2.0`` as the same numbers."""
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))


def test_stated_lower_bounds_are_the_tested_ones() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    bounds = requirements(["export", "fast", "tb", "test"])
    assert {name: version(pin) for name, pin in pins.items()} == {name: version(low) for name, low in bounds.items()}


def test_every_dependency_states_its_lower_bound() -> None:
    assert len(requirements([])) == len(PROJECT["project"]["dependencies"])


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for entry in PROJECT["project"]["dependencies"]:
        assert re.search(rf'"{re.escape(entry)}", +# \w', text), f"no reason beside {entry}"


def test_version_is_one() -> None:
    done = fresh("-c", "import visattn; print(visattn.__version__)")
    assert done.stdout.strip() == PROJECT["project"]["version"]
