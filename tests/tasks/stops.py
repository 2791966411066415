"""A callback that stops a run early, as a kill at an epoch's end would."""

from __future__ import annotations

import lightning as L


class StopAfter(L.Callback):
    """Stop when so many epochs are done."""

    def __init__(self, epochs: int = 99) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask the trainer to stop."""
        del pl_module
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs
