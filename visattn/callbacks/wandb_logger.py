"""Lightning's W&B logger with a fixed id, and without a prompt."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(run: Path, identity: str, *, offline: bool) -> WandbLogger:
    """Return a logger whose run goes on under ``identity`` after a resume."""
    import wandb

    keyless = not os.environ.get("WANDB_API_KEY") and not wandb.api.api_key
    if keyless and not offline:
        print("wandb: no API key found; logging offline (wandb sync uploads it later)", flush=True)  # noqa: T201
    return WandbLogger(
        project="visattn", name=run.name, id=identity, save_dir=str(run), offline=offline or keyless, resume="allow"
    )
