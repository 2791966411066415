"""What every task is to those who train it, test it and report on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning as L
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from visattn.maps.boxes import Marked
from visattn.maps.capture import Maps
from visattn.tasks.optim import OPTIMIZER, SCHEDULE, optimise
from visattn.types import Frames, Metric


class Seen(NamedTuple):
    """What a network says of some pictures, and the maps of its blocks meanwhile."""

    maps: Maps | None  # None without blocks
    frames: Frames | None  # where the pictures lie in the maps; None where a map covers its picture
    said: list[str]  # of each picture
    names: list[str]  # the class that each picture is taken for; empty for a task that names parts of it
    boxes: list[list[Marked]]  # of each picture; empty for a task without boxes


class Results(NamedTuple):
    """What a test says beyond the scores that were logged."""

    metrics: dict[str, float]  # by their full names, such as test/ece
    per_class: dict[str, float]  # the task's metric, class by class; a class that cannot be scored is absent
    more: dict[str, Any]  # whatever else result.json keeps


class AbstractTask(L.LightningModule, ABC):
    """A network, what it learns from, and what is said about it.

    Args:
        class_names: what the network tells apart.
        optimizer: keywords of timm's ``create_optimizer_v2``.
        schedule: keywords of timm's ``create_scheduler_v2``; epochs are the trainer's.
        layer_decay: multiplies the learning rate for each layer further from the head.
        attention_lr: multiplies the learning rate of inserted blocks.
    """

    kind: ClassVar[str]  # kept in checkpoints: which task a file is of
    metric: ClassVar[Metric]
    spoken: ClassVar[dict[str, str]]  # scores of the line that ends an epoch: key to word
    batch: ClassVar[int]  # pictures at a time where nobody says how many
    network: nn.Module

    def __init__(
        self,
        class_names: Sequence[str] | None,
        *,
        optimizer: Mapping[str, Any] | None,
        schedule: Mapping[str, Any] | None,
        layer_decay: float | None = None,
        attention_lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.class_names = [str(name) for name in class_names or []] or ["0", "1"]
        self.optimizer = {**OPTIMIZER, **(optimizer or {})}
        self.schedule = {**SCHEDULE, **(schedule or {})}
        self.layer_decay, self.attention_lr = layer_decay, attention_lr

    @abstractmethod
    def picture_size(self, data: Mapping[str, Any]) -> int:
        """Return the side of the square pictures on which cost is measured, given the data's settings."""

    @abstractmethod
    def preparation(self, data: Mapping[str, Any]) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        """Return what turns a picture ``(H, W, 3)`` from a file into one for ``see``, given the data's settings."""

    @abstractmethod
    def see(self, images: Sequence[Tensor] | Tensor, truths: Any = None) -> Seen:
        """Run the network, which is in eval mode, on pictures and record its maps.

        Args:
            images: uint8 ``(3, H, W)`` each.
            truths: what a batch of the data says of them, if it is known.
        """

    @abstractmethod
    def cam(self, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return Grad-CAM of each picture, ``(h, w)`` over the whole of it, from 0 to 1."""

    @abstractmethod
    def sorts(self, dataset: Any) -> NDArray[np.int64]:
        """Return a class of each picture of ``dataset``, so that some can be drawn evenly."""

    @abstractmethod
    def costed(self) -> nn.Module:
        """Return the network as its cost is measured: images ``(N, 3, S, S)`` in; tensors out in both modes."""

    @abstractmethod
    def write_results(self, run: Path, outputs: Sequence[Any], data: Any) -> Results:
        """Write predictions and pictures of a test into the run folder.

        Args:
            run: the run folder.
            outputs: what ``test_step`` returned, of every batch of every process, on the CPU.
            data: the data module that was tested on.
        """

    @classmethod
    @abstractmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        """Return what the screen says of a finished test, given ``result.json``."""

    def configure_optimizers(self) -> Any:
        """Return timm's optimiser and schedule, stepped once an update."""
        epochs = self.trainer.max_epochs or 1
        return optimise(
            self.network,
            epochs=epochs,
            updates=max(1, int(self.trainer.estimated_stepping_batches) // max(1, epochs)),
            optimizer=self.optimizer,
            schedule=self.schedule,
            layer_decay=self.layer_decay,
            attention_lr=self.attention_lr,
        )

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # type: ignore[override]
        """Set the rates for the next update."""
        del metric
        scheduler.step_update(num_updates=self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which task the file is of: a word, never a class to import."""
        checkpoint["task"] = self.kind
