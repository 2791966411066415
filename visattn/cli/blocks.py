"""``visattn blocks``: the blocks, read from their files without torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import visattn.attention
from visattn.attention._facts import Facts, facts, figures
from visattn.cli.parser import Parser
from visattn.types import FAMILIES, unknown

COLUMNS = ("block", "family", "maps", "parameters", "MACs", "cost", "paper", "where the paper puts it")
NUMBERS = ("parameters", "MACs", "cost")
NARROWEST = 80


def run(args: Sequence[str]) -> int:
    """Print the table of blocks, or one block's card."""
    parser = Parser("blocks", "list the attention blocks, or describe one")
    parser.add_argument("block", nargs="?", help="a block's name")
    name = parser.parse_args(args).block
    names = visattn.attention.blocks()
    if name is not None and name not in names:
        raise unknown("block", name, names)
    print(card(facts(name)) if name is not None else table([facts(each) for each in names], _width()))
    return 0


def table(blocks: Sequence[Facts], width: int) -> str:
    """Return the table of ``blocks``, family by family, cut at ``width``, with what its figures mean."""
    rows = [COLUMNS, *(cells(block) for block in sorted(blocks, key=family_order))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = []
    for row in rows:
        text = [
            cell.rjust(w) if 3 <= i <= 5 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(text).rstrip()
        lines.append(line if len(line) <= width else f"{line[: width - 1]}…")
    return "\n".join([*lines, "", meaning()])


def family_order(block: Facts) -> tuple[int, str]:
    """Return what sorts blocks by family, then by name."""
    names = [str(family) for family in FAMILIES]
    return names.index(block.family) if block.family in names else len(names), block.name


def cells(block: Facts) -> tuple[str, ...]:
    """Return a block's row of the table."""
    parameters, macs = block.figure("parameters", "{:,}"), short(block.figures.get("macs"))
    cost = block.figure("training", "{:.1f}")
    return block.name, block.family, block.maps, parameters, macs, cost, block.paper, block.place


def card(block: Facts) -> str:
    """Return all that is known of a block."""
    words = {heading: text for heading, text in block.sections.items() if heading}
    references = words.pop("References")
    parts = {**words, "Measured": "\n".join(measured(block)), "Where the paper puts it": "\n".join(places(block))}
    lines = [f"{block.title}: a {block.family} {block.form}, `{block.name}` in configs", "", block.sections[""]]
    for heading, text in {**parts, "References": references}.items():
        lines += ["", f"{heading}:", *(f"    {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines).replace("``", "")


def measured(block: Facts) -> list[str]:
    """Return the block's figures as lines of text."""
    if not block.figures:
        return ["nothing yet: visattn bench blocks"]
    found = figures()
    shape = f"{found['channels']} x {found['side']} x {found['side']}"
    maps = ", ".join(f"{name} ({kind})" for name, kind in block.figures["maps"].items())
    forward, training, saved = (block.figure(key, "{:.1f}") for key in ("forward", "training", "saved"))
    latency, step = (block.figure(key, "x{:.2f}") for key in ("host_latency", "host_training"))
    return [
        f"maps: {maps or '-'}",
        f"{block.figure('parameters', '{:,}')} parameters, {short(block.figures.get('macs'))} MACs for one map {shape}",
        f"forward {forward}, forward and backward {training} copies of the features; {saved} times their bytes kept",
        f"{found['host']} with it against without: latency {latency}, training step {step}",
    ]


def places(block: Facts) -> list[str]:
    """Return the paper's places, a line a family of hosts."""
    if not block.figures:
        return ["-"]
    found = block.figures.get("places", {})
    return [
        f"{host}: at={place['at']!r}"
        + (f", stages {', '.join(map(str, place['stages']))}" if place["stages"] else "")
        + f" ({place['source']})"
        for host, place in found.items()
    ] or ["no CNN host is named; visattn takes the end of each residual branch, else of each stage"]


def meaning() -> str:
    """Return what the table's figures are and where they were measured."""
    found = figures()
    if not found["blocks"]:
        return "Nothing is measured yet: visattn bench blocks"
    shape = f"{found['channels']} channels, {found['side']} x {found['side']}"
    return (
        f"Parameters and MACs (of one map) at {shape}. Cost: forward and backward in copies of the same features\n"
        f"(batch {found['batch']}), medians of {found['rounds']} interleaved rounds; {found['device']}, "
        f"{found['threads']} threads, torch {found['torch']}.\n"
        "A block's card: visattn blocks NAME. Measure here: visattn bench blocks."
    )


def short(count: float | None) -> str:
    """Return a count with three figures and k, M or G; ``-`` for none.

    Example:
        >>> short(93216), short(0), short(None)
        ('93.2k', '0', '-')
    """
    if count is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


def _width() -> int:
    return max(NARROWEST, shutil.get_terminal_size((160, 40)).columns)
