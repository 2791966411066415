"""Every block in every host: ``python benchmarks/hosts.py --hosts 60 --blocks all`` writes ``docs/hosts.md``.

For each pair: the identity start is exact in fp32 and bf16, the host's keys stay, one training step works, ``detach``
gives the host back bit for bit. Rows are kept as they are made (``--rows``), so a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hosts_check import PROVEN, Bench, refusal
from hosts_page import page
from hosts_table import HOSTS, NO_MAPS, Host
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visattn.attention import blocks
from visattn.types import UsageError, unknown

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("hosts", "pairs", "refused_hosts")
SAMPLE = 6  # blocks of a host that does not meet all


def main() -> int:
    """Check what is not checked yet, then write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", default=str(len(HOSTS)), help="how many, or names with commas between")
    parser.add_argument("--blocks", default="all", help="names with commas between")
    parser.add_argument(
        "--full", type=int, default=len(HOSTS), help=f"hosts behind these meet {SAMPLE} blocks each, in turns"
    )
    parser.add_argument("--rows", type=Path, default=Path("runs/hosts.jsonl"), help="where rows are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder of hosts.md and results/hosts.json")
    options = parser.parse_args()
    try:
        hosts, names = chosen_hosts(options.hosts), chosen_blocks(options.blocks)
    except UsageError as error:
        parser.error(str(error))
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    plan = [(host, names if i < options.full else turns(names, i)) for i, host in enumerate(hosts)]
    work(plan, options.rows)
    minutes = (time.perf_counter() - start) / 60
    results = gather(plan, options.rows, minutes)
    results["full"] = min(options.full, len(hosts))
    (options.out / "results").mkdir(parents=True, exist_ok=True)
    (options.out / "results" / "hosts.json").write_text(json.dumps(compact(results), indent=1) + "\n")
    (options.out / "hosts.md").write_text(page(results))
    failed = [row for row in results["pairs"] if outcome(row)[0] == "failed"]
    print(f"{options.out / 'hosts.md'}: {len(results['hosts'])} hosts, {len(results['pairs'])} pairs")
    return 1 if failed else 0


def chosen_hosts(text: str) -> list[Host]:
    """Return the first ``text`` hosts of the table, or those that it names."""
    if text.isdigit():
        return HOSTS[: int(text)]
    table = {host.name: host for host in HOSTS}
    for name in text.split(","):
        if name not in table:
            raise unknown("host", name, table)
    return [table[name] for name in text.split(",")]


def chosen_blocks(text: str) -> list[str]:
    """Return the blocks that ``text`` names."""
    names = blocks() if text == "all" else text.split(",")
    for name in names:
        if name not in blocks():
            raise unknown("block", name, blocks())
    return names


def turns(names: list[str], place: int) -> list[str]:
    """Return the few blocks whose turn it is at a place of the table."""
    if len(names) <= SAMPLE:
        return names
    return [names[(place * SAMPLE + i) % len(names)] for i in range(SAMPLE)]


def work(plan: list[tuple[Host, list[str]]], rows: Path) -> None:
    """Make the rows that are missing, a host at a time."""
    have = read(rows)
    done = {(row["host"], row["block"]) for row in have["pairs"]}
    known = {row["host"] for row in have["hosts"]} | {row["host"] for row in have["refused_hosts"]}
    bare = [Host(name, "") for name in NO_MAPS if name not in known] if len(plan) > len(HOSTS) / 2 else []
    started = time.perf_counter()
    spent = have["minutes"]
    pairs = [(host.name, name) for host, names in plan for name in names]
    with bar(len(pairs) + len(bare)) as (progress, task):
        progress.advance(task, sum(pair in done for pair in pairs))
        for host, names in plan:
            left = [name for name in names if (host.name, name) not in done]
            if left or host.name not in known:
                progress.update(task, description=host.name)
                try:
                    bench = Bench(host)
                    if host.name not in known:
                        keep(rows, "hosts", bench.facts())
                except Exception as error:  # the page names it
                    keep(rows, "refused_hosts", {"host": host.name, "reason": f"cannot be tried: {error}"})
                    continue
                for name in left:
                    keep(rows, "pairs", checked(bench, name))
                    progress.advance(task)
                del bench
                gc.collect()
            keep(rows, "minutes", spent + (time.perf_counter() - started) / 60)
        for host in bare:
            progress.update(task, description=host.name)
            keep(rows, "refused_hosts", {"host": host.name, "reason": refusal(host) or "not refused"})
            progress.advance(task)


def checked(bench: Bench, name: str) -> dict[str, Any]:
    """Return the pair's row; what breaks it is the finding, and the host is built anew after it."""
    try:
        return bench.check(name)
    except Exception as error:
        bench.__init__(bench.host)  # type: ignore[misc]  # the host may be half changed
        return {"host": bench.host.name, "block": name, "error": f"{type(error).__name__}: {str(error)[:200]}"}


@contextmanager
def bar(total: int) -> Iterator[tuple[Progress, Any]]:
    """Show a bar with an estimate of what is left."""
    columns = (
        TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress, progress.add_task("hosts", total=total)


def keep(rows: Path, kind: str, value: Any) -> None:
    """Append a row."""
    with rows.open("a") as file:
        file.write(json.dumps({kind: value}) + "\n")


def read(rows: Path) -> dict[str, Any]:
    """Return the rows that are there, by kind, and the minutes that they took."""
    found: dict[str, Any] = {**{kind: [] for kind in KINDS}, "minutes": 0.0}
    for line in rows.read_text().splitlines() if rows.is_file() else []:
        for kind, value in json.loads(line).items():
            if kind == "minutes":
                found[kind] = value
            else:
                found[kind].append(value)
    return found


def gather(plan: list[tuple[Host, list[str]]], rows: Path, minutes: float) -> dict[str, Any]:
    """Return the rows of ``plan`` in the table's order, and how they were made."""
    have, order = read(rows), [host.name for host, _ in plan]
    wanted = {host.name: names for host, names in plan}
    pairs = [row for row in have["pairs"] if row["block"] in wanted.get(row["host"], [])]
    return {
        "command": shlex.join(["python", "benchmarks/hosts.py", *sys.argv[1:]]),
        "machine": processor(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("torch", "timm", "torchvision")},
        "minutes": round(max(minutes, have["minutes"]), 1),
        "hosts": sorted((r for r in have["hosts"] if r["host"] in order), key=lambda r: order.index(r["host"])),
        "pairs": sorted(pairs, key=lambda row: (order.index(row["host"]), row["block"])),
        "refused_hosts": have["refused_hosts"],
    }


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """Return ``results`` with each host's pairs in its row: proven blocks with their sites, the others with why."""
    kept = {key: value for key, value in results.items() if key != "pairs"}
    kept["hosts"] = [dict(row, proven={}, refused={}, failed={}) for row in results["hosts"]]
    by_name = {row["host"]: row for row in kept["hosts"]}
    for row in results["pairs"]:
        kind, what = outcome(row)
        by_name[row["host"]][kind][row["block"]] = what
    return kept


def outcome(row: dict[str, Any]) -> tuple[str, Any]:
    """Return whether a pair was ``proven``, ``refused`` or ``failed``, with its sites or the reason."""
    if "refused" in row:
        return "refused", row["refused"].partition("; valid: ")[0]
    missing = [key for key in PROVEN if not row.get(key)]
    return ("failed", row.get("error", missing)) if missing else ("proven", row["sites"])


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    raise SystemExit(main())
