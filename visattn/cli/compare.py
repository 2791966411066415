"""``visattn compare``: the baseline and every block with every seed, then the report."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from visattn.cli.configs import find_config
from visattn.cli.parser import Parser
from visattn.compare.plan import Plan, arms_as_data, make_plan
from visattn.types import UsageError, unknown

ACTIONS = ("run", "plan")


def run(args: Sequence[str]) -> int:
    """Run or plan a comparison."""
    action, *rest = args or ["--help"]
    if action in {"-h", "--help"}:
        action, rest = "run", ["--help"]
    if action not in ACTIONS:
        raise unknown("action of compare", action, ACTIONS)
    parser = Parser(f"compare {action}", "compare attention with its baseline; other options override the config")
    parser.add_argument("--config", required=True, help="the experiment file that all cells share")
    parser.add_argument("--attention", required=True, help="the specs, such as none,se,cbam")
    parser.add_argument("--seeds", default="0-5", help="0-5 or 0,1,2; with fewer than six no test can decide")
    parser.add_argument("--out", default=None, help="the comparison's folder; by default runs/compare-CONFIG")
    parser.add_argument("--jobs", type=int, default=None, help="cells at a time; by default one a core or GPU")
    options, overrides = parser.parse_known_args(rest)
    config = find_config(options.config)
    out = Path(options.out or f"runs/compare-{config.stem}")
    plan = make_plan(config, options.attention, options.seeds, out, overrides)
    say_plan(plan)
    if action == "plan":
        return 0
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, got {options.jobs}")
    return run_plan(plan, jobs=options.jobs, command=["visattn", "compare", *args])


def say_plan(plan: Plan) -> None:
    """Print the cells, and what their number of seeds can show at best."""
    states = [cell.state for cell in plan.cells]
    names = ", ".join(arm.label for arm in plan.arms)
    print(f"{len(plan.arms)} arms ({names}) x {len(plan.seeds)} seeds = {len(states)} cells in {plan.out}")
    if set(states) != {"new"}:
        finished, started, new = (states.count(state) for state in ("finished", "started", "new"))
        print(f"{finished} finished, {started} to go on with, {new} to run")
    from visattn.report.statistics import LEVEL, seeds_needed, smallest_p

    smallest = smallest_p(len(plan.seeds))
    blocks = max(1, len(plan.arms) - 1)
    if smallest * blocks > LEVEL:
        print(
            f"{len(plan.seeds)} seeds cannot decide between {blocks} blocks and the baseline: the smallest p of a "
            f"sign-flip test is {smallest:.3g}, times {blocks} by Holm; {seeds_needed(blocks)} seeds could"
        )
    sys.stdout.flush()


def run_plan(plan: Plan, *, jobs: int | None, command: list[str], title: str | None = None) -> int:
    """Run the cells, measure the costs, draw the maps and write the report."""
    from visattn.compare.cells import run_cells

    began = time.monotonic()
    plan.out.mkdir(parents=True, exist_ok=True)
    facts = _facts(plan, command, title)
    _write(plan.out / "compare.json", facts)
    gpus = _gpus()
    outcome = run_cells(plan, jobs=jobs or gpus or os.cpu_count() or 1, gpus=gpus)
    if not outcome.finished:
        _, log = outcome.failed[0]
        raise UsageError(f"every cell failed; the first one's last words: {_last_words(log)}; see {log}")
    _finish(plan, facts, began)
    for cell, log in outcome.failed:
        print(f"visattn: {cell.arm.label}/seed{cell.seed} failed: {_last_words(log)}; see {log}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _finish(plan: Plan, facts: dict[str, Any], began: float) -> None:
    from visattn.cli.report import say_report
    from visattn.compare.draws import draw_pictures
    from visattn.compare.measure import measure_arms
    from visattn.compare.pictures import draw_arms
    from visattn.report.write import write_report

    proof = next(json.loads((c.folder / "pairing.json").read_text()) for c in plan.cells if c.state == "finished")
    facts["data"] = proof["data"]
    print("measuring what each arm costs, side by side ...", flush=True)
    measure_arms(plan, image_size=proof["data"]["image_size"])
    draw_pictures(plan)
    print("drawing where each arm looks ...", flush=True)
    draw_arms(plan)
    facts["minutes"] = facts.get("minutes", 0) + (time.monotonic() - began) / 60
    _write(plan.out / "compare.json", facts)
    say_report(write_report(plan.out))


def _facts(plan: Plan, command: list[str], title: str | None) -> dict[str, Any]:
    config = yaml.safe_load(plan.config.read_text())
    init = config["model"]["init_args"]
    known = plan.out / "compare.json"
    before = json.loads(known.read_text()) if known.is_file() else {}
    host = _setting(plan, "backbone", init)
    if "arch" in init:
        host = f"{_setting(plan, 'arch', init)} on {host}"
    return {
        "title": title or f"{host}: attention against the baseline",
        "identity": plan.identity,
        "config": str(plan.config),
        "overrides": list(plan.overrides),
        "baseline": "none",
        "arms": arms_as_data(plan, init.get("attention_init", "identity")),
        "seeds": list(plan.seeds),
        "host": host,
        "machine": _machine(),
        "versions": {
            name: version(name) for name in ("visattn", "torch", "torchvision", "timm", "lightning", "albumentations")
        },
        "command": shlex.join(command),
        "started": before.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
        "minutes": before.get("minutes", 0.0),
        "data": before.get("data"),
    }


def _setting(plan: Plan, key: str, init: dict[str, Any]) -> str:
    """Return what the overrides, or else the config, say of one of the task's settings."""
    given = [o.partition("=")[2] for o in plan.overrides if o.partition("=")[0].endswith(f".{key}")]
    return given[-1] if given else str(init[key])


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next(
            (row.partition(":")[2].strip() for row in info.read_text().splitlines() if row.startswith("model name")),
            cpu,
        )
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": _gpu_name(), "platform": platform.platform()}


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "none"


def _write(path: Path, value: Any) -> None:
    from visattn.tasks.tables import write_json

    write_json(path, value)
