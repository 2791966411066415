"""``visattn sites``: the places of a backbone that could take a block."""

from __future__ import annotations

from collections.abc import Sequence

from visattn.cli.parser import Parser


def run(args: Sequence[str]) -> int:
    """Print a backbone's places, or where a block would go."""
    parser = Parser("sites", "list the places of a backbone that could take a block")
    parser.add_argument("backbone", help="a timm model or torchvision:<model>")
    parser.add_argument("--block", default=None, help="show where this block (a name or a YAML spec) goes, and why")
    parser.add_argument("--at", default="paper", help="with --block: the place, a word or a pattern")
    parser.add_argument("--every", action="store_true", help="list each module with (N, C, H, W) features")
    options = parser.parse_args(args)
    import yaml

    from visattn.insertion.attend import attend, sites
    from visattn.models.create import create_model

    model = create_model(options.backbone)
    if options.block is None:
        rows = sites(model, every=options.every)
    else:
        rows = attend(model, yaml.safe_load(options.block), at=options.at)
    width = max([len(row.name) for row in rows] + [4])
    print(f"{'site':<{width}}  stage  channels  map at 160x224  {'parameters  ' if options.block else ''}placement")
    for row in rows:
        stage = "-" if row.stage is None else str(row.stage)
        size = f"{row.size[0]}x{row.size[1]}"
        added = f"{row.parameters:>10,}  " if options.block else ""
        print(f"{row.name:<{width}}  {stage:>5}  {row.channels:>8}  {size:>14}  {added}{row.placement}")
    if options.block:
        total = sum(p.numel() for p in model.parameters())
        new = sum(row.parameters for row in rows)
        print(f"{len(rows)} sites, {new:,} parameters added to {total - new:,} (+{100 * new / (total - new):.2f} %)")
    return 0
