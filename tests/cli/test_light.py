"""Asking what there is costs no import of torch."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

PROBE = """
import sys
from visattn.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("args", [["--help"], ["blocks"], ["blocks", "cbam"], ["--version"]])
def test_loads_no_torch(args: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
    assert len(done.stdout) > 10
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 0.3
