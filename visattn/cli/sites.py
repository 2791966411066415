"""``visattn sites``: the places of a backbone that could take a block, and where a spec would put its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from visattn.cli.parser import Parser
from visattn.types import UsageError

if TYPE_CHECKING:
    from visattn.insertion.site import Site

RIGHT = {"stage", "stride", "channels", "map", "parameters"}  # columns of numbers
MEANINGS = {
    "residual": "the end of each residual branch, before its addition",
    "stages": "the last module of each stage",
    "pool": "in place of global average pooling",
    "native": "in place of the host's own attention",
    "fpn": "the outputs of the pyramid",
}


def run(args: Sequence[str]) -> int:
    """Print a backbone's places, or where blocks would go and why."""
    parser = Parser("sites", "list the places of a backbone that could take a block, or show where blocks would go")
    parser.add_argument("backbone", help="a timm model or torchvision:<model>")
    parser.add_argument(
        "--block", "--attention", default=None, help="show where this goes, and why: a block's name or a whole spec"
    )
    parser.add_argument("--at", default="paper", help="with --block: the place, a word or a pattern")
    parser.add_argument("--every", action="store_true", help="list each module with (N, C, H, W) features")
    options = parser.parse_args(args)
    from visattn.cli.specs import read_spec
    from visattn.insertion.attend import attend, sites
    from visattn.insertion.probe import probe
    from visattn.insertion.trunk import why_none
    from visattn.models.create import create_model

    model = create_model(options.backbone)
    own = sum(p.numel() for p in model.parameters())
    title = f"{options.backbone} ({type(model).__name__}, {own:,} parameters)"
    if options.block is None:
        found = sites(model, every=options.every)
        if not found:
            raise UsageError(
                f"no word finds a place in {options.backbone}: {why_none(model, probe(model, one_size=True))}"
            )
        print(f"{title}\n\n{listing(found, options.backbone)}")
    else:
        print(f"{title}\n\n{preview(attend(model, read_spec(options.block), at=options.at), own)}")
    return 0


def listing(rows: Sequence[Site], backbone: str) -> str:
    """Return the table of places that could take a block, and what to do next."""
    lines = [table(rows, placement=True), ""]
    native = [row.native for row in rows if row.native]
    if native:
        kinds = ", ".join(f"{native.count(kind)} {kind}" for kind in dict.fromkeys(native))
        lines += [
            f"Its own attention: {kinds}. {{native: eca}} puts a block in its place, {{native: none}} takes it out."
        ]
    return "\n".join([*lines, f"Where a block would go, and why: visattn sites {backbone} --block cbam"])


def preview(rows: Sequence[Site], own: int) -> str:
    """Return where the blocks would go: each place's reason once, its sites below it, and the sum."""
    if not rows:
        return "no attention"
    groups: dict[tuple[str, str, str], list[Site]] = {}
    for row in rows:
        key = (", ".join(row.blocks) or f"no {row.native}", row.placement, ", ".join(row.init) if row.blocks else "")
        groups.setdefault(key, []).append(row)
    lines: list[str] = []
    for (block, placement, init), members in groups.items():
        means = f" ({MEANINGS[placement]})" if placement in MEANINGS else ""
        starts = f"; init {init}" if members[0].blocks else ""
        lines += [f"{block} at {placement}{means}{starts}", "", table(members, placement=False), ""]
    new, gone = sum(row.parameters for row in rows), sum(row.removed for row in rows)
    count = "1 site" if len(rows) == 1 else f"{len(rows)} sites"
    total = f"{count}, {new:,} parameters added to {own:,} ({100 * new / max(own, 1):+.2f} %)"
    if gone:
        total += (
            f"\n{gone:,} parameters of the host's own attention taken out: trained, it would no longer be what it was"
        )
    return "\n".join([*lines, total])


def table(rows: Sequence[Site], *, placement: bool) -> str:
    """Return ``rows`` as columns under their names."""
    added = any(row.blocks for row in rows)
    cells = [
        {
            "site": row.name,
            "stage": "-" if row.stage is None else str(row.stage),
            "stride": "-" if row.stage is None else str(2 ** (row.stage + 1)),
            "channels": str(row.channels),
            "map": f"{row.size[0]}x{row.size[1]}",
            **({"parameters": f"{row.parameters:,}"} if added else {}),
            **({"words": row.placement} if placement else {}),
        }
        for row in rows
    ]
    names = list(cells[0]) if cells else ["site"]
    heads = {name: name for name in names}
    if rows:
        heads["map"] = f"map of {rows[0].image[0]}x{rows[0].image[1]}"
    widths = {name: max(len(line[name]) for line in [heads, *cells]) for name in names}
    return "\n".join(
        "  ".join(
            line[name].rjust(widths[name]) if name in RIGHT else line[name].ljust(widths[name]) for name in names
        ).rstrip()
        for line in [heads, *cells]
    )
