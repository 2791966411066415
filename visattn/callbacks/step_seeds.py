"""Make step t a function of (seed, rank, t), so that a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import lightning as L
import numpy as np
import torch


class StepSeeds(L.Callback):
    """Seed all generators before each training step from (seed, rank, epoch, batch).

    Dropout, stochastic depth and mixup (which draws from numpy's global generator) then repeat
    exactly after a restart from an epoch's end.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch, numpy and random."""
        del pl_module, batch
        text = f"{self.seed}/{trainer.global_rank}/{trainer.current_epoch}/{batch_idx}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002 - timm's Mixup draws from the global generator
        random.seed(number)
