"""A sample of ``benchmarks/hosts.py``: it proves pairs, names refusals, goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *args: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / "hosts.py"), *args]
    command += ["--rows", str(folder / "rows.jsonl"), "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results" / "hosts.json").read_text())


@pytest.mark.slow
def test_a_sample(tmp_path: Path) -> None:
    sample = ["--hosts", "plain:cnn,mobilenetv3_small_050,torchvision:squeezenet1_1,torchvision:mobilenet_v2"]
    found = run(tmp_path, *sample, "--blocks", "se,nonlocal")
    assert [set(row["proven"]) for row in found["hosts"]] == [{"se", "nonlocal"}] * 4
    assert all(row["exported"] and not row["failed"] for row in found["hosts"])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    more = run(tmp_path, *sample, "--blocks", "se,nonlocal,additive")
    again = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert again[: len(lines)] == lines
    assert sum('"pairs"' in line for line in again[len(lines) :]) == 4, "only what was missing was made"
    refused = {row["host"]: set(row["refused"]) for row in more["hosts"] if row["refused"]}
    assert refused == {"torchvision:mobilenet_v2": {"additive"}}
    page = (tmp_path / "hosts.md").read_text()
    assert "4 hosts, 3 blocks, 12 pairs: 11 proven, 0 failed, 1 refused" in page
    assert "no module pools its last features" in page
