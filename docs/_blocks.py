"""Write the blocks' cards and their table on three pages: ``python docs/_blocks.py``.

Everything comes from the docstrings and from ``visattn/attention/figures.json``. With ``--check`` nothing is
written, and stale files are named with exit status 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from visattn.attention import blocks
from visattn.attention._facts import Facts, facts
from visattn.cli.blocks import cells, family_order, meaning, measured, places

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "blocks"
START, END = "<!-- blocks: written by docs/_blocks.py -->", "<!-- end of blocks -->"
HEAD = "| block | family | maps | parameters | MACs | cost | paper | where the paper puts it |"
RULE = "| --- | --- | --- | ---: | ---: | ---: | --- | --- |"


def main(args: Sequence[str]) -> int:
    """Write or check all generated files."""
    known = sorted((facts(name) for name in blocks()), key=family_order)
    files = {FOLDER / f"{block.name}.md": card(block) for block in known}
    files[FOLDER / "index.md"] = index(known)
    for page, folder in ((ROOT / "README.md", "docs/blocks/"), (ROOT / "docs" / "api.md", "blocks/")):
        files[page] = between(page.read_text(encoding="utf-8"), table(known, folder))
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in args:
        print("".join(f"stale: {path.relative_to(ROOT)}\n" for path in stale), end="")
        return bool(stale)
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def index(known: Sequence[Facts]) -> str:
    """Return the page that lists all cards."""
    return (
        "# Blocks\n\nEvery block is checked against a formula in float64 that does not use its code, and against the "
        "authors' own code,\ntimm or torchvision wherever one can be run. "
        "[What is wrong elsewhere](known-defects.md) is told with reproductions.\n\n"
        f"{table(known, '')}\n"
    )


def table(known: Sequence[Facts], folder: str) -> str:
    """Return the table of blocks with links to the cards in ``folder``."""
    rows = [HEAD, RULE]
    for block in known:
        _, family, maps, parameters, macs, cost, paper, place = cells(block)
        paper = f"[{paper}]({block.link})" if block.link else paper
        place = f"`{place}`" if place != "-" else place
        shown = (f"[`{block.name}`]({folder}{block.name}.md)", family, maps, parameters, macs, cost, paper, place)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in shown)} |")
    return "\n".join([*rows, "", meaning()])


def between(text: str, new: str) -> str:
    """Return ``text`` with what stands between the marks replaced."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{new}\n\n{END}{after}"


def card(block: Facts) -> str:
    """Return a block's page."""
    words = block.sections
    _, _, formula = words[""].partition("\n\n")
    lines = [f"# {block.title}", "", f"`{block.name}`, a {block.family} {block.form}. {block.summary}", "", formula]
    picture = FOLDER / "pictures" / f"{block.name}.jpg"
    if picture.is_file():
        lines += ["", f"![maps of {block.title}](pictures/{block.name}.jpg)", "", PICTURED]
    for heading, text in (("Shapes", words.get("Shapes", "")), ("Cost", words.get("Cost", ""))):
        lines += ["", f"## {heading}", "", text]
    lines += [
        "",
        "Measured:",
        "",
        *(f"- {line}" for line in measured(block)),
        *(["", meaning()] if block.figures else []),
    ]
    lines += ["", "## Where the paper puts it", "", *(f"- {line}" for line in places(block))]
    lines += ["", "## Arguments", "", arguments(words.get("Args", ""))]
    example = words.get("Example", "")
    imported = f">>> from visattn.attention.{block.name} import {block.title}\n" if f"{block.title}(" in example else ""
    lines += ["", "## Example", "", "```pycon", imported + example, "```"]
    references = re.sub(r"(https://[^\s,;]*[^\s,;.])", r"<\1>", words["References"])
    reference, _, differences = references.partition("Differences:")
    lines += ["", "## Source", "", reference.strip()]
    if differences:
        first, *rest = differences.strip()
        lines += ["", "## Differences", "", first.upper() + "".join(rest)]
    return "\n".join(lines).rstrip() + "\n"


def arguments(text: str) -> str:
    """Return the arguments as a list, one an item."""
    return re.sub(r"^(\w+):", r"- `\1`:", text, flags=re.MULTILINE)


PICTURED = (
    "Its maps after 8 epochs on `ClutterData` from scratch, in timm's `test_resnet` with the paper's start, on a test\n"
    "picture and on a photograph that comes with scikit-learn: `python benchmarks/block_pictures.py`.\n"
    "One seed: the picture shows what the maps look like, not what the block is worth."
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
