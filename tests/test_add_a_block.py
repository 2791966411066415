"""Adding a block is one file and one file of rows: the guide's own example, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = """
from cases import Case, dense, sigmoid, values


def example(module, x):
    p = values(module)
    return x * sigmoid(dense(p, "mlp.2", dense(p, "mlp.0", x.mean((2, 3), keepdim=True)).clamp(min=0)))


ROWS = [Case("example", 32, 2 * 32 * 2 + 2 + 32, {"channel": "channel"}, example)]
"""


def suite(copy: Path, selection: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/attention", "-k", selection]
    return subprocess.run([*command, "-m", "not slow"], cwd=copy, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_guides_example(tmp_path: Path) -> None:
    for folder in ("visattn", "tests/attention", "tests/golden"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    guide = (ROOT / "docs" / "add_a_block.md").read_text()
    (code,) = re.findall(r"```python\n(from __future__.*?)```", guide, re.DOTALL)
    (tmp_path / "visattn" / "attention" / "example.py").write_text(code)

    forgotten = suite(tmp_path, "test_every_file_has_a_row")
    assert forgotten.returncode == 1
    assert "no row for example: add tests/attention/rows/<block>.py" in forgotten.stdout

    (tmp_path / "tests" / "attention" / "rows" / "example.py").write_text(ROWS)
    done = suite(tmp_path, "example or test_every_file_has_a_row")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50  # the whole contract, for a row of a few lines
