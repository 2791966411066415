"""The cells of a comparison: what runs where, and whether a folder may be gone on with."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from visattn.insertion.spec import label, parse
from visattn.types import AttentionSpec, UsageError

BASELINE = "none"
State = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class Arm:
    """One attention spec of a comparison."""

    label: str
    spec: AttentionSpec


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    arm: Arm
    seed: int
    folder: Path

    @property
    def state(self) -> State:
        """How far the cell is, as its folder tells."""
        if (self.folder / "result.json").is_file():
            return "finished"
        started = (self.folder / "config.yaml").is_file() and any((self.folder / "checkpoints").glob("*.ckpt"))
        return "started" if started else "new"


@dataclass(frozen=True)
class Plan:
    """All cells, seed by seed, so that a run cut short still has whole pairs."""

    config: Path
    overrides: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    out: Path

    @property
    def cells(self) -> list[Cell]:
        """Every arm with every seed."""
        return [Cell(arm, seed, self.out / arm.label / f"seed{seed}") for seed in self.seeds for arm in self.arms]

    @property
    def identity(self) -> str:
        """A digest of all that decides a cell's result, besides its arm and seed."""
        text = json.dumps([self.config.read_text(), list(self.overrides)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def epochs(self) -> int:
        """The epochs of one cell."""
        for override in reversed(self.overrides):
            if override.startswith("--trainer.max_epochs="):
                return int(override.partition("=")[2])
        return int((yaml.safe_load(self.config.read_text()).get("trainer") or {}).get("max_epochs") or 1)


def make_plan(config: Path, attention: str, seeds: str, out: Path, overrides: list[str]) -> Plan:
    """Parse the command line's words into a plan; the baseline comes first, named or not.

    Raises:
        UsageError: a spec, seed or override that is not valid, or a folder of another comparison.
    """
    try:
        specs = yaml.safe_load(f"[{attention}]")
    except yaml.YAMLError as error:
        raise UsageError(f"--attention '{attention}' is not a list of specs, such as none,se,cbam") from error
    arms = [Arm(BASELINE, None)]
    for spec in specs:
        parse(spec)
        name = re.sub(r"[^\w+.=()-]+", "_", label(spec))
        if name in {arm.label for arm in arms} and name != BASELINE:
            raise UsageError(f"--attention names '{name}' twice")
        if name != BASELINE:
            arms.append(Arm(name, spec))
    for override in overrides:
        if not re.match(r"--(model|data|trainer)[.\w]*=", override):
            raise UsageError(
                f"override '{override}' is not valid; valid: --model.KEY=, --data.KEY= or --trainer.KEY=VALUE"
            )
        if re.match(r"--model(\.init_args)?\.attention=", override):
            raise UsageError("the arms differ in model.attention alone; name them with --attention")
    plan = Plan(config, tuple(overrides), tuple(arms), parse_seeds(seeds), out)
    known = out / "compare.json"
    if known.is_file() and json.loads(known.read_text()).get("identity") != plan.identity:
        raise UsageError(f"{out} holds a comparison of another config or other overrides; choose another --out")
    if out.exists() and not known.is_file() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no comparison; choose another --out")
    return plan


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that ``0-2`` or ``0,1,5`` names.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    seeds: list[int] = []
    for part in str(text).split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if ends is None:
            raise UsageError(f"--seeds '{text}' is not valid; valid: 0-2 or 0,1,5")
        first = int(ends[1])
        seeds += range(first, int(ends[2] or first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds '{text}' names {'no seed' if not seeds else 'a seed twice'}; valid: 0-2 or 0,1,5")
    return tuple(seeds)


def arms_as_data(plan: Plan, init: str) -> list[dict[str, Any]]:
    """Return the arms as ``compare.json`` keeps them."""
    rows = []
    for arm in plan.arms:
        inits = sorted({entry.init for entry in parse(arm.spec, init="paper" if init == "paper" else "identity")})
        rows.append({"label": arm.label, "spec": arm.spec, "init": "+".join(inits) or None})
    return rows
