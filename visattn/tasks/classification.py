"""Image classification as a LightningModule."""

from __future__ import annotations

from typing import Any, Literal, Self, cast

import lightning as L
import torch
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from visattn.models.create import create_model, normalisation
from visattn.models.parameters import freeze_host, param_groups
from visattn.types import AttentionSpec, ClassificationBatch, Init, UsageError, unknown

OPTIMIZER = {"opt": "adamw", "lr": 1e-3, "weight_decay": 0.05}
TRAINS = ("all", "attention")
SCHEDULE = {"sched": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-5, "min_lr": 1e-6}


class ClassificationTask(L.LightningModule):
    """Train a host, with or without attention, to name what a picture shows.

    Args:
        backbone: a timm model or ``torchvision:<model>``.
        attention: what to insert where, as in ``visattn.attend``; null is the baseline.
        attention_init: the start of specs that name none: ``identity`` keeps a trained host's outputs
            at step 0, ``paper`` starts as the papers do.
        class_names: taken from the data.
        pretrained: start from the library's pretrained weights.
        weights: start from a local file of host weights.
        rename: prefixes of that file's keys to the host's, such as ``{"linear.": "fc."}``.
        pool: a pooling head in place of global average pooling, such as ``additive``.
        host: keywords of the host's constructor, such as ``{"drop_path_rate": 0.1}``.
        optimizer: keywords of timm's ``create_optimizer_v2``.
        schedule: keywords of timm's ``create_scheduler_v2``; epochs are the trainer's.
        train: ``all``, or ``attention``: the host is frozen, its norms too; blocks and the head learn.
        layer_decay: multiplies the learning rate for each layer further from the head.
        attention_lr: multiplies the learning rate of inserted blocks.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of mixup; 0 is off.
        cutmix: alpha of cutmix; 0 is off.
        channels_last: keep features in channels-last memory, which tensor cores want.
        compile: compile the network with ``torch.compile``.

    Raises:
        UsageError: an unknown backbone, block, place, keyword, optimiser or schedule, or another ``train``.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        attention: AttentionSpec = None,
        attention_init: Init = "identity",
        class_names: list[str] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        rename: dict[str, str] | None = None,
        pool: str | None = None,
        host: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
        train: Literal["all", "attention"] = "all",
        layer_decay: float | None = None,
        attention_lr: float = 1.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 - the word of torch and of every trainer
    ) -> None:
        super().__init__()
        if train not in TRAINS:
            raise unknown("value of train", train, TRAINS)
        self.save_hyperparameters()
        self.class_names = [str(name) for name in class_names or []] or ["0", "1"]
        classes = len(self.class_names)
        start = {"pretrained": pretrained, "weights": weights, "rename": rename}
        insert = {"attention": attention, "attention_init": attention_init, "pool": pool}
        self.network = create_model(backbone, num_classes=classes, **start, **insert, **(host or {}))  # type: ignore[arg-type]
        self.trains = train
        self.train()  # freezes, before an optimiser or DDP asks what learns
        mean, std = normalisation(self.network)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.optimizer = {**OPTIMIZER, **(optimizer or {})}
        self.schedule = {**SCHEDULE, **(schedule or {})}
        self.layer_decay, self.attention_lr = layer_decay, attention_lr
        self.label_smoothing = label_smoothing
        mixing = {"mixup_alpha": mixup, "cutmix_alpha": cutmix, "label_smoothing": label_smoothing}
        self.mix = Mixup(num_classes=classes, **mixing) if mixup or cutmix else None
        self.scores = nn.ModuleDict({split: _scores(split, classes) for split in ("val", "test")})
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compile:
            self.network.compile()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the norms of a frozen host stay in eval mode, whoever calls it and when."""
        super().train(mode)
        if mode and self.trains == "attention":
            freeze_host(self.network)
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images ``(N, 3, H, W)`` as the floats that the host was made for."""
        mean, std = cast("Tensor", self.mean), cast("Tensor", self.std)
        x = (images.to(mean.dtype) / 255 - mean) / std
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` for uint8 images ``(N, 3, H, W)``, or for normalised floats."""
        logits: Tensor = self.network(images if images.is_floating_point() else self.normalise(images))
        return logits

    def training_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch."""
        del batch_idx
        x, targets = self.normalise(batch.images), batch.labels
        if self.mix is not None:
            x, targets = self.mix(x, targets)
            loss = SoftTargetCrossEntropy()(self.network(x).float(), targets)
        else:
            loss = F.cross_entropy(self.network(x).float(), targets, label_smoothing=self.label_smoothing)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(targets))
        return cast("Tensor", loss)

    def validation_step(self, batch: ClassificationBatch, batch_idx: int) -> None:
        """Add a batch to the validation scores."""
        del batch_idx
        self._score("val", batch)

    def test_step(self, batch: ClassificationBatch, batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the test scores and return its predictions for reports."""
        del batch_idx
        return {"logits": self._score("test", batch), "labels": batch.labels, "indices": batch.indices}

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """Return timm's optimiser and schedule, stepped once an update."""
        keywords = dict(self.optimizer)
        groups = param_groups(
            self.network,
            weight_decay=keywords.pop("weight_decay"),
            new_lr_mult=self.attention_lr,
            layer_decay=self.layer_decay,
        )
        updates = max(1, int(self.trainer.estimated_stepping_batches) // max(1, self.trainer.max_epochs or 1))
        try:
            optimizer = create_optimizer_v2(groups, **keywords)
            schedule, _ = create_scheduler_v2(
                optimizer,
                num_epochs=self.trainer.max_epochs or 1,
                step_on_epochs=False,
                updates_per_epoch=updates,
                **self.schedule,
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise UsageError(f"optimizer {self.optimizer} with schedule {self.schedule}: {error}") from error
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # type: ignore[override]
        """Set the rates for the next update."""
        del metric
        scheduler.step_update(num_updates=self.global_step)

    def _score(self, split: str, batch: ClassificationBatch) -> Tensor:
        logits = self(batch.images).float()
        scores = cast("MetricCollection", self.scores[split])
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        for name, metric in scores.items(keep_base=True):
            metric.update(losses) if name == "loss" else metric.update(logits, batch.labels)
        return logits

    def _log_scores(self, split: str) -> None:
        scores = cast("MetricCollection", self.scores[split])
        self.log_dict(scores.compute(), prog_bar=split == "val", sync_dist=False)
        scores.reset()


def _scores(split: str, classes: int) -> MetricCollection:
    """Return fresh metrics of one split; with five classes or fewer, five guesses are always right."""
    scores: dict[str, Any] = {"loss": MeanMetric(), "top1": MulticlassAccuracy(classes, average="micro")}
    if classes > 5:
        scores["top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
    return MetricCollection(scores, prefix=f"{split}/")
