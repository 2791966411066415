"""Checkpoints at epoch ends that survive a kill at any instant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from visattn.tasks.restore import CHECKPOINTS

KEPT = 2  # the newest, and one to fall back to


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target and rename: a checkpoint is whole or it is not there.

    Lightning writes through a temporary file that may lie on another file system, where the rename
    is a copy: 3 of 20 kills left a torn file (Lightning-AI/pytorch-lightning#21744).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        del storage_options
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)


def epoch_checkpoints(run: Path) -> ModelCheckpoint:
    """Keep the checkpoints of the last two epochs of ``run``, saved after each epoch's validation."""
    return ModelCheckpoint(
        dirpath=run / CHECKPOINTS,
        filename="{epoch:04d}",
        monitor="epoch",
        mode="max",
        save_top_k=KEPT,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
