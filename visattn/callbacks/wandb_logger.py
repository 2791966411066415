"""Lightning's W&B logger with a fixed id, and without a prompt."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(run: Path, identity: str, *, offline: bool) -> WandbLogger:
    """Return a logger whose run goes on under ``identity`` after a resume."""
    keyless = not offline and not _has_key()
    if keyless:
        print("wandb: no API key found; logging offline (wandb sync uploads it later)", flush=True)  # noqa: T201
    # not Lightning's offline=True: it sets the mode "dryrun", for which wandb 0.31 asks for a key
    mode = "offline" if offline or keyless else "online"
    return WandbLogger(project="visattn", name=run.name, id=identity, save_dir=str(run), resume="allow", mode=mode)


def _has_key() -> bool:
    import wandb

    try:
        return bool(os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False))
    except (wandb.errors.UsageError, wandb.errors.CommError):
        return False
