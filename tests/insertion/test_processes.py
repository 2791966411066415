"""Attended hosts under DDP, FSDP2 and distributed checkpoints, on two gloo processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from life import FEW, Row

pytestmark = pytest.mark.slow
every_row = pytest.mark.parametrize("row", FEW, ids=str)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run both processes once and return what each of them found."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    started = []
    for rank in (0, 1):
        env = {**os.environ, "RANK": str(rank), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, str(script), str(folder)]
        with (folder / f"{rank}.log").open("w") as log:
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder))
    try:
        codes = [process.wait(timeout=500) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0, 0], "\n".join((folder / f"{rank}.log").read_text()[-2000:] for rank in (0, 1))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@every_row
def test_ddp_reaches_the_weights_of_one_process(results: list[dict[str, Any]], row: Row) -> None:
    for found in results:
        assert found["ddp"][str(row)]["gap"] < 1e-9


@every_row
def test_fsdp_shards_host_and_blocks_and_reaches_the_weights_of_one_process(
    results: list[dict[str, Any]], row: Row
) -> None:
    for found in results:
        assert found["fsdp"][str(row)]["sharded"]
        assert found["fsdp"][str(row)]["blocks"] >= 1
    assert results[0]["fsdp"][str(row)]["gap"] < 1e-9
    assert results[0]["fsdp"][str(row)]["optimiser"] < 1e-9


@every_row
def test_distributed_checkpoints_carry_the_hosts_own_keys(results: list[dict[str, Any]], row: Row) -> None:
    assert results[0]["fsdp"][str(row)]["keys"]
    assert results[0]["fsdp"][str(row)]["optimiser keys"]


@every_row
def test_model_and_optimiser_round_trip_sharded_and_full(results: list[dict[str, Any]], row: Row) -> None:
    for found in results:
        assert found["fsdp"][str(row)]["round trips"] == [True, True]
