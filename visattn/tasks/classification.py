"""Image classification as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from visattn.data.images import Picture
from visattn.data.transforms import eval_transform
from visattn.maps.capture import recording
from visattn.maps.choice import class_map_layer
from visattn.maps.gradcam import grad_cam
from visattn.models.create import create_model, normalisation
from visattn.models.parameters import freeze_host
from visattn.tasks.task import AbstractTask, Results, Seen
from visattn.types import ACCURACY, AttentionSpec, ClassificationBatch, Init, unknown

TRAINS = ("all", "attention")


class ClassificationTask(AbstractTask):
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

    kind = "classification"
    metric = ACCURACY
    spoken: ClassVar[dict[str, str]] = {"top1": "top-1"}
    batch = 32

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
        if train not in TRAINS:
            raise unknown("value of train", train, TRAINS)
        training = {"optimizer": optimizer, "schedule": schedule, "layer_decay": layer_decay}
        super().__init__(class_names, attention_lr=attention_lr, **training)  # type: ignore[arg-type]
        self.save_hyperparameters()
        classes = len(self.class_names)
        start = {"pretrained": pretrained, "weights": weights, "rename": rename}
        insert = {"attention": attention, "attention_init": attention_init, "pool": pool}
        self.network = create_model(backbone, num_classes=classes, **start, **insert, **(host or {}))  # type: ignore[arg-type]
        self.trains = train
        self.train()  # freezes, before an optimiser or DDP asks what learns
        mean, std = normalisation(self.network)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
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

    def picture_size(self, data: Mapping[str, Any]) -> int:
        """Return the side of the pictures that the data yields."""
        return int(data.get("image_size", 224))

    def costed(self) -> nn.Module:
        """Return the network itself."""
        return self.network

    def preparation(self, data: Mapping[str, Any]) -> Callable[[Picture], Picture]:
        """Return the data's transform for evaluation, which ends in a square."""
        return eval_transform(self.picture_size(data), data.get("eval_transforms"))

    def see(self, images: Sequence[Tensor] | Tensor, truths: Tensor | None = None) -> Seen:
        """Run the network on pictures of one size and say what it takes each for."""
        x = self.normalise(_stacked(images).to(self.device))
        with torch.no_grad(), recording(self.network, len(x)) as maps:
            sure, guess = self.network(x).float().softmax(1).max(1)
        names, found = self.class_names, zip(guess.tolist(), sure.tolist(), strict=True)
        said = [f"predicted={names[best]}" if truths is not None else f"{names[best]} {p:.0%}" for best, p in found]
        if truths is not None:
            said = [f"label={names[y]}  {text}" for y, text in zip(truths.tolist(), said, strict=True)]
        return Seen(maps, None, said, [names[best] for best in guess.tolist()], [[] for _ in said])

    def cam(self, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return Grad-CAM of the class that each picture is taken for."""
        x = self.normalise(_stacked(images).to(self.device))
        planes = grad_cam(self.network, class_map_layer(self.network, x.shape[-1]), x)
        return list(planes / planes.amax((1, 2), keepdim=True).clamp(min=1e-9))

    def sorts(self, dataset: Any) -> NDArray[np.int64]:
        """Return the labels."""
        return np.asarray(dataset.labels)

    def write_results(self, run: Path, outputs: Sequence[dict[str, Tensor]], data: Any) -> Results:
        """Write every prediction, the confusion matrix and the calibration."""
        from visattn.tasks.classification_results import write_classes

        return write_classes(run, outputs, data.dataset("test").names, self.class_names)

    @classmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        """Return the scores in a line."""
        scores = {name.removeprefix("test/"): value for name, value in result["metrics"].items()}
        line = f"test top-1 {100 * scores['top1']:.2f} %"
        if "top5" in scores:
            line += f", top-5 {100 * scores['top5']:.2f} %"
        return f"{line}, loss {scores['loss']:.4f}, calibration error {scores['ece']:.4f}"

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


def _stacked(images: Sequence[Tensor] | Tensor) -> Tensor:
    return images if isinstance(images, Tensor) else torch.stack(list(images))


def _scores(split: str, classes: int) -> MetricCollection:
    """Return fresh metrics of one split; with five classes or fewer, five guesses are always right."""
    scores: dict[str, Any] = {"loss": MeanMetric(), "top1": MulticlassAccuracy(classes, average="micro")}
    if classes > 5:
        scores["top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
    return MetricCollection(scores, prefix=f"{split}/")
