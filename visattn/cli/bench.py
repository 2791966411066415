"""``visattn bench``: what attention costs, side by side with the plain backbone or with a plain copy."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from visattn.cli.parser import Parser
from visattn.types import unknown

SUBJECTS = ("blocks", "model")


def run(args: Sequence[str]) -> int:
    """Measure and print ratios."""
    subject, *rest = args or ["--help"]
    if subject in {"-h", "--help"}:
        print(f"usage: visattn bench {{{','.join(SUBJECTS)}}} ...\n\n  blocks  each block by itself, in copies of its")
        print("          features, and in a backbone\n  model   a backbone with and without attention")
        return 0
    if subject not in SUBJECTS:
        raise unknown("subject of bench", subject, SUBJECTS)
    return {"blocks": _blocks, "model": _model}[subject](rest)


def _blocks(args: Sequence[str]) -> int:
    parser = Parser("bench blocks", "measure every block: parameters, MACs, time in copies of its features, in a host")
    parser.add_argument("--blocks", default=None, help="names, with commas between; by default all")
    parser.add_argument("--host", default="resnet18", help="the backbone that each block is put into")
    parser.add_argument("--image_size", type=int, default=128, help="side of the host's images")
    parser.add_argument("--batch", type=int, default=4, help="images of the host's training step")
    _share(parser)
    options = parser.parse_args(args)
    from visattn.attention import block_class, blocks
    from visattn.bench.blocks import COPY, measure_blocks

    names = blocks() if options.blocks is None else [name.strip() for name in options.blocks.split(",")]
    for name in names:
        block_class(name)  # an unknown name is refused before anything is measured
    with _bar("blocks") as progress:
        found = measure_blocks(names, rounds=options.rounds, progress=progress)
    arms = ["none", *names]
    cost = _host(options, dict(zip(arms, arms, strict=True)))
    for name, row in found["blocks"].items():
        arm = cost["arms"][name]
        row |= {"host_latency": round(arm["latency_ratio"], 3), "host_training": round(arm["train_ratio"], 3)}
    found |= {"host": f"{options.host} ({options.image_size} px, batch {options.batch})"}
    found |= {"command": f"visattn bench blocks --rounds {options.rounds}"}
    print(f"{'block':<16} {'forward':>8} {'training':>8} {'saved':>6} {'host latency':>13} {'host training':>13}")
    for name, row in found["blocks"].items():
        ratios = f"{row['host_latency']:>13.2f} {row['host_training']:>13.2f}"
        print(f"{name:<16} {row['forward']:>8.1f} {row['training']:>8.1f} {row['saved']:>6.1f} {ratios}")
    print(f"forward, training and saved are times those of a {COPY} of the features; the host's times the plain host's")
    return _kept(found, options.out)


def _model(args: Sequence[str]) -> int:
    parser = Parser(
        "bench model", "measure parameters, MACs, latency, training step and memory against the plain backbone"
    )
    parser.add_argument("--backbone", dest="host", default="resnet18", help="a timm model or torchvision:<model>")
    parser.add_argument("--attention", default="none,se,eca,cbam", help="the specs to compare; the first is the base")
    parser.add_argument("--image_size", type=int, default=224, help="side of the images")
    parser.add_argument("--batch", type=int, default=8, help="images a training step")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    _share(parser)
    options = parser.parse_args(args)
    import torch

    from visattn.cli.specs import read_spec
    from visattn.insertion.spec import label

    specs = {label(spec): spec for spec in read_spec(f"[{options.attention}]")}
    cost = _host(options, specs)
    where = f"torch {torch.__version__}, {cost['device']}, {cost['threads']} threads"
    print(f"{options.host}, {options.image_size} px, batch {options.batch}, {where}")
    print(
        f"{'attention':<12} {'parameters':>12} {'MACs':>9} {'latency':>17} {'training step':>17} {'saved tensors':>14}"
    )
    for name, row in cost["arms"].items():
        latency = f"{row['latency_ms']:.1f} ms x{row['latency_ratio']:.2f}"
        train = f"{row['train_ms']:.0f} ms x{row['train_ratio']:.2f}"
        size = f"{row['saved_bytes'] / 2**20:.1f} MB"
        print(f"{name:<12} {row['parameters']:>12,} {row['macs'] / 1e9:>8.3f}G {latency:>17} {train:>17} {size:>14}")
    return _kept(cost, options.out)


def _share(parser: Parser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--out", type=Path, default=None, help="keep the figures as JSON")


def _host(options: Namespace, specs: dict[str, Any]) -> dict[str, Any]:
    from visattn.bench.cost import measure_cost
    from visattn.models.create import create_model

    builders = {name: partial(create_model, options.host, attention=spec) for name, spec in specs.items()}
    device = getattr(options, "device", "cpu")
    sizes = {"image_size": options.image_size, "batch": options.batch, "rounds": options.rounds}
    with _bar(options.host) as progress:
        return measure_cost(builders, device=device, progress=progress, **sizes)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _kept(found: dict[str, Any], path: Path | None) -> int:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    return 0
