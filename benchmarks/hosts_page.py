"""The page of ``benchmarks/hosts.py``: what was proven in which host, and what was refused and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hosts_check import EXPORTED, PROVEN

INTRO = """# Hosts

Each block stood, at its paper's place or the nearest word, in each of these hosts. It was **proven** for a pair when

- the outputs in eval mode were equal bit for bit before and after insertion, in fp32 and in bf16;
- the host's state-dict keys were all there, in their order, and new ones beside them;
- one training step (up to three, where stochastic depth had dropped a branch for the whole batch) gave a finite loss,
  finite gradients for all of the block's parameters, and moved every block;
- the host's own checkpoint then loaded strictly, and after `detach` keys and outputs were those of before, bit for bit.

Weights are random: this is about insertion, not accuracy. Sites by word are counted without a block; `paper` counts
those of `{exported}`. *Exported* means `torch.export` of the host with `{exported}`, its outputs compared (of a
detector: the backbone). A host marked * takes one size of image only.

Made by `{command}`
on {machine}, {cores} cores, shared with other work, in {minutes:.0f} minutes; torch {torch}, timm {timm}, torchvision
{torchvision}. The rows: [results/hosts.json](results/hosts.json).
"""


def page(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    hosts, pairs, refused = results["hosts"], results["pairs"], results["refused_hosts"]
    made = {key: results[key] for key in ("command", "machine", "cores", "torch", "timm", "torchvision", "minutes")}
    tried = [row for row in pairs if "refused" not in row]
    proven = [row for row in tried if all(row.get(key) for key in PROVEN)]
    kinds = len({row["block"] for row in pairs})
    total = (
        f"**{len(hosts)} hosts, {kinds} blocks, {len(pairs)} pairs: {len(proven)} proven, "
        f"{len(tried) - len(proven)} failed, {len(pairs) - len(tried)} refused.** "
        f"{sum(bool(row['exported']) for row in hosts)} of {len(hosts)} hosts exported."
    )
    fewest = min((sum(row["host"] == host["host"] for row in pairs) for host in hosts), default=0)
    few = f"The first {results['full']} hosts met every block, the others {fewest} each, in turns."
    few = few if results["full"] < len(hosts) else ""
    parts = [INTRO.format(exported=EXPORTED, **made), f"{total} {few}".strip(), "", *_table(hosts, pairs)]
    failed = [row for row in tried if row not in proven]
    parts += ["", "## Pairs that failed", "", *(_failures(failed) or ["None."])]
    parts += ["", "## Pairs that were refused", "", *_refusals([row for row in pairs if "refused" in row])]
    parts += ["", "## Hosts that do not export", "", *_unexported(hosts)]
    parts += ["", "## Hosts without maps", "", "A block by name still works at the sites that are named.", ""]
    parts += [f"- `{row['host']}`: {row['reason']}" for row in refused]
    return "\n".join(parts) + "\n"


def _table(hosts: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[str]:
    head = ["family", "host", "residual", "stages", "paper", "identity fp32, bf16", "trained", "detached", "exported"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for host in hosts:
        rows = [row for row in pairs if row["host"] == host["host"] and "refused" not in row]
        done = {key: sum(bool(row.get(key)) for row in rows) for key in PROVEN}
        name = f"`{host['host']}`" + ("*" if host["fixed"] else "")
        cells = [host["family"], name, host["residual"], host["stages"], host["paper"]]
        cells += [f"{done['fp32']}, {done['bf16']} of {len(rows)}", done["trained"], done["detached"]]
        cells.append("yes" if host["exported"] else "no")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"- `{row['block']}` in `{row['host']}`: "
        + (row.get("error") or "not " + ", ".join(key for key in PROVEN if not row.get(key)))
        for row in rows
    ]


def _refusals(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a host and reason, with the blocks that it met."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reason = row["refused"].partition("; valid: ")[0]
        groups.setdefault((row["host"], reason), []).append(f"`{row['block']}`")
    return [f"- `{host}`, {', '.join(blocks)}: {reason}" for (host, reason), blocks in groups.items()] or ["None."]


def _unexported(hosts: Sequence[dict[str, Any]]) -> list[str]:
    return [f"- `{row['host']}`: {row['export_error']}" for row in hosts if not row["exported"]] or ["None."]
