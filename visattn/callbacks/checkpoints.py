"""Checkpoints at epoch ends that survive a kill at any instant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from visattn.types import UsageError

FOLDER = "checkpoints"
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
        dirpath=run / FOLDER,
        filename="{epoch:04d}",
        monitor="epoch",
        mode="max",
        save_top_k=KEPT,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def newest_checkpoint(run: Path) -> tuple[Path, list[str]]:
    """Return the newest checkpoint of ``run`` that loads, and what was wrong with newer ones.

    Raises:
        UsageError: there is none.
    """
    wrong = []
    for path in sorted((run / FOLDER).glob("*.ckpt"), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - a torn file raises anything from EOFError to OSError
            wrong.append(f"{path} does not load ({type(error).__name__})")
        else:
            return path, wrong
    raise UsageError(f"{run} holds no checkpoint that loads{': ' + '; '.join(wrong) if wrong else ''}")
