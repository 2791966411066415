"""Run cells as processes of their own, a few at a time, and show how far they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from visattn.compare.plan import Cell, Plan
from visattn.types import ACCURACY, Metric

POLL = 0.3  # seconds between looks at the cells
STARTUP = 0.6  # of an epoch: what importing and testing cost a cell beside its epochs


@dataclass
class Running:
    """A cell and its process."""

    cell: Cell
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Outcome:
    """What came of all cells."""

    finished: list[Cell] = field(default_factory=list)
    failed: list[tuple[Cell, Path]] = field(default_factory=list)


def run_cells(plan: Plan, *, jobs: int, gpus: int = 0) -> Outcome:
    """Run every cell that is not finished, ``jobs`` at a time.

    A started cell goes on from its last epoch's end. A cell that fails is named and leaves the
    others alone. An interrupt stops all of them; the same command goes on later.

    Args:
        plan: the comparison.
        jobs: processes at a time; on a CPU each has one thread.
        gpus: number of GPUs to share out, 0 for none.
    """
    outcome = Outcome([cell for cell in plan.cells if cell.state == "finished"])
    waiting = [cell for cell in plan.cells if cell.state != "finished"]
    running: list[Running] = []
    try:
        with _screen(plan) as show:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_start(plan, waiting.pop(0), jobs, gpus, {r.log for r in running}))
                show(outcome, running)
                time.sleep(POLL)
                for each in [r for r in running if r.process.poll() is not None]:
                    running.remove(each)
                    if each.process.returncode == 0 and each.cell.state == "finished":
                        outcome.finished.append(each.cell)
                    else:
                        outcome.failed.append((each.cell, each.log))
            show(outcome, running)
    finally:
        for each in running:
            each.process.send_signal(signal.SIGINT)
        for each in running:
            try:
                each.process.wait(10)
            except subprocess.TimeoutExpired:
                each.process.kill()
    return outcome


def _start(plan: Plan, cell: Cell, jobs: int, gpus: int, busy: set[Path]) -> Running:
    command = [sys.executable, "-m", "visattn", "fit"]
    if cell.state == "started":
        command += ["--resume", str(cell.folder)]
    else:
        # what a killed cell left before its first checkpoint is of no use
        shutil.rmtree(cell.folder, ignore_errors=True)
        spec = cell.arm.spec
        command += ["--config", str(plan.config), *plan.overrides]
        command += [
            f"--model.attention={spec if isinstance(spec, str) else json.dumps(spec)}",
            f"--seed_everything={cell.seed}",
            f"--out={cell.folder}",
        ]
    environment = dict(os.environ)
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(len(busy) % gpus)
    elif jobs > 1:
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    log = cell.folder.with_suffix(".log")
    with log.open("wb") as file:
        # a session of its own: a Ctrl-C reaches the cells through us, once
        process = subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    return Running(cell, process, log)


def _share(plan: Plan, outcome: Outcome, running: list[Running]) -> float:
    """Return how much of all the work is done, from the epochs that the cells have written."""
    whole = plan.epochs + STARTUP
    done = whole * (len(outcome.finished) + len(outcome.failed))
    for each in running:
        table = each.cell.folder / "metrics.csv"
        done += max(0, len(table.read_text().splitlines()) - 1) if table.is_file() else 0
    return done / (whole * len(plan.cells))


@contextmanager
def _screen(plan: Plan) -> Iterator[Callable[[Outcome, list[Running]], None]]:
    """A progress bar with an estimate on a terminal, a line a cell elsewhere."""
    console = Console()
    began = time.monotonic()
    at_start: list[float] = []
    reported: set[Path] = set()

    def left(share: float) -> str:
        at_start.append(share) if not at_start else None
        gained = share - at_start[0]
        seconds = (time.monotonic() - began) * (1 - share) / gained if gained > 0 else None
        if seconds is None:
            return "estimating"
        return f"about {seconds / 60:.1f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    columns = (
        TextColumn("{task.description}"),
        BarColumn(28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("cells", total=1.0, left="estimating")

        def show(outcome: Outcome, running: list[Running]) -> None:
            share = _share(plan, outcome, running)
            names = ", ".join(f"{r.cell.arm.label}/seed{r.cell.seed}" for r in running)
            done = len(outcome.finished) + len(outcome.failed)
            bar.update(
                task,
                completed=share,
                left=left(share) + (f"  [dim]{names}[/dim]" if names else ""),
                description=f"{done}/{len(plan.cells)} cells",
            )
            for cell in [*outcome.finished, *(c for c, _ in outcome.failed)]:
                if cell.folder not in reported:
                    reported.add(cell.folder)
                    text = _line(cell)
                    bar.console.print(
                        text if console.is_terminal else f"{text}; {done}/{len(plan.cells)} cells, {left(share)}",
                        highlight=False,
                    )

        yield show


def _line(cell: Cell) -> str:
    name = f"{cell.arm.label}, seed {cell.seed}"
    if cell.state != "finished":
        return f"{name}: failed, see {cell.folder.with_suffix('.log')}"
    result = json.loads((cell.folder / "result.json").read_text())
    metric = Metric(**result["metric"]) if "metric" in result else ACCURACY
    score = 100 * result["metrics"][f"test/{metric.key}"]
    return f"{name}: {metric.word} {score:.1f} % in {result['train_seconds']:.0f} s"
