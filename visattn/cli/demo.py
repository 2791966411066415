"""``visattn demo``: a small CNN with and without attention, on data that ships with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visattn.cli.compare import run_plan, say_plan
from visattn.cli.configs import find_config
from visattn.cli.parser import Parser
from visattn.compare.plan import make_plan

FAST = ["--trainer.max_epochs=1", "--data.train=128", "--data.val=64", "--data.test=64"]


def run(args: Sequence[str]) -> int:
    """Run the demonstration."""
    parser = Parser("demo", "compare the baseline with ECA and CBAM over 3 seeds on embedded data; no download")
    parser.add_argument("--fast", action="store_true", help="one epoch, one seed, few pictures: is everything there?")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="the comparison's folder")
    parser.add_argument("--jobs", type=int, default=None, help="cells at a time; by default one a core")
    options = parser.parse_args(args)
    config = find_config("experiment/clutter_classification")
    seeds, overrides = ("0", FAST) if options.fast else ("0-2", [])
    plan = make_plan(config, "none,eca,cbam", seeds, options.out, overrides)
    say_plan(plan)
    title = "Does attention help a small CNN find digits in clutter?"
    return run_plan(plan, jobs=options.jobs, command=["visattn", "demo", *args], title=title)
