"""``visattn bench model``: what attention costs, side by side with the plain backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from visattn.cli.parser import Parser
from visattn.types import unknown

SUBJECTS = ("model",)


def run(args: Sequence[str]) -> int:
    """Measure and print ratios."""
    subject, *rest = args or ["model", "--help"]
    if subject not in {*SUBJECTS, "-h", "--help"}:
        raise unknown("subject of bench", subject, SUBJECTS)
    parser = Parser(
        "bench model", "measure parameters, MACs, latency, training step and memory against the plain backbone"
    )
    parser.add_argument("--backbone", default="resnet18", help="a timm model or torchvision:<model>")
    parser.add_argument("--attention", default="none,se,eca,cbam", help="the specs to compare; the first is the base")
    parser.add_argument("--image_size", type=int, default=224, help="side of the images")
    parser.add_argument("--batch", type=int, default=8, help="images a training step")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=None, help="keep the figures as JSON")
    options = parser.parse_args(["--help"] if subject in {"-h", "--help"} else rest)
    import torch
    import yaml

    from visattn.bench.cost import measure_cost
    from visattn.insertion.spec import label
    from visattn.models.create import create_model

    specs = {label(spec): spec for spec in yaml.safe_load(f"[{options.attention}]")}
    builders = {name: partial(create_model, options.backbone, attention=spec) for name, spec in specs.items()}
    cost = measure_cost(
        builders, image_size=options.image_size, batch=options.batch, device=options.device, rounds=options.rounds
    )
    where = f"torch {torch.__version__}, {cost['device']}, {cost['threads']} threads"
    print(f"{options.backbone}, {options.image_size} px, batch {options.batch}, {where}")
    print(
        f"{'attention':<12} {'parameters':>12} {'MACs':>9} {'latency':>17} {'training step':>17} {'saved tensors':>14}"
    )
    for name, row in cost["arms"].items():
        latency = f"{row['latency_ms']:.1f} ms x{row['latency_ratio']:.2f}"
        train = f"{row['train_ms']:.0f} ms x{row['train_ratio']:.2f}"
        size = f"{row['saved_bytes'] / 2**20:.1f} MB"
        print(f"{name:<12} {row['parameters']:>12,} {row['macs'] / 1e9:>8.3f}G {latency:>17} {train:>17} {size:>14}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(cost, indent=1) + "\n")
    return 0
