"""Generated pages are those that the code gives now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_cards_and_tables_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/_blocks.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}write them anew: make cards"


def test_tests_named_in_pages_exist() -> None:
    named = [
        name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"tests/\S+\.py::\w+", page.read_text())
    ]
    assert named
    for name in named:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text(), name
