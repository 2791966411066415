"""Object detection as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visattn.data.images import Picture
from visattn.heads.detector import AbstractDetector
from visattn.maps.capture import recording
from visattn.maps.choice import class_map_layer
from visattn.maps.crop import to_pictures
from visattn.maps.gradcam import grad_cam
from visattn.models.detector import Norms, create_detector
from visattn.tasks.average_precision import BoxScores, Found, evaluate, found, gather
from visattn.tasks.found import marked, said_of
from visattn.tasks.task import AbstractTask, Results, Seen
from visattn.types import AttentionSpec, DetectionBatch, Init, Metric, UsageError

Targets = list[dict[str, Tensor]]


class DetectionTask(AbstractTask):
    """Train a detector, with or without attention in its backbone and at its pyramid.

    The scores are COCO's: ``val/AP`` is the mean over overlaps from 0.5 to 0.95 and over the classes that
    have an object; ``val/AP50`` and others stand beside it. Pictures without an object are trained on too.

    Args:
        arch: ``fasterrcnn``, ``retinanet``, ``fcos`` or ``ssd``.
        backbone: a timm model or ``torchvision:<model>``.
        attention: what to insert where, as in ``visattn.attend``, ``fpn`` for the pyramid; null is the baseline.
        attention_init: the start of specs that name none: ``identity`` keeps a trained backbone's features
            at step 0, ``paper`` starts as the papers do.
        class_names: taken from the data.
        pretrained: start the backbone from the library's pretrained weights.
        weights: start the backbone from a local file of weights.
        rename: prefixes of that file's keys to the backbone's, such as ``{"linear.": "fc."}``.
        norms: the backbone's batch norms: ``train``, ``frozen``, or ``sync`` between devices.
        image_size: the shorter side that pictures are resized to; of a list one is drawn for each training
            picture, and the last serves for evaluation.
        max_size: the longer side's limit.
        channels: of the pyramid and the heads.
        anchor_scale: multiplies the anchors; by default they go with the image size.
        score_threshold: the lowest score of a detection; the architecture's own by default.
        host: keywords of the backbone's constructor, such as ``{"drop_path_rate": 0.1}``.
        optimizer: keywords of timm's ``create_optimizer_v2``.
        schedule: keywords of timm's ``create_scheduler_v2``, epochs are the trainer's; ``warmup_updates`` is a
            warmup of so many steps.
        attention_lr: multiplies the learning rate of inserted blocks.
        channels_last: keep features in channels-last memory, which tensor cores want.

    Raises:
        UsageError: an unknown architecture, backbone, block, place, keyword, optimiser or schedule; in training
            a loss that is not finite, with its terms.
    """

    kind = "detection"
    metric = Metric("AP", "AP", "average precision")
    spoken: ClassVar[dict[str, str]] = {"AP": "AP", "AP50": "AP50"}
    network: AbstractDetector
    batch = 4

    def __init__(
        self,
        arch: str = "fcos",
        backbone: str = "resnet18",
        *,
        attention: AttentionSpec = None,
        attention_init: Init = "identity",
        class_names: list[str] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        rename: dict[str, str] | None = None,
        norms: Norms = "train",
        image_size: int | list[int] = 800,
        max_size: int = 1333,
        channels: int = 256,
        anchor_scale: float | None = None,
        score_threshold: float | None = None,
        host: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
        attention_lr: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(class_names, optimizer=optimizer, schedule=schedule, attention_lr=attention_lr)
        self.save_hyperparameters()
        self.network = create_detector(
            arch,
            backbone,
            attention=attention,
            attention_init=attention_init,
            num_classes=len(self.class_names),
            pretrained=pretrained,
            weights=weights,
            rename=rename,
            norms=norms,
            image_size=image_size,
            max_size=max_size,
            channels=channels,
            anchor_scale=anchor_scale,
            score_threshold=score_threshold,
            **(host or {}),
        )
        self.image_size = image_size if isinstance(image_size, int) else image_size[-1]
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.category_ids = list(range(1, len(self.class_names) + 1))  # what the data's format calls the classes
        self._found: dict[int, Found] = {}  # by place in the dataset, of the running evaluation
        self._tested: tuple[dict[int, Found], BoxScores] | None = None

    def setup(self, stage: str) -> None:
        """Take the ids of the classes from the data."""
        del stage
        data = getattr(self.trainer, "datamodule", None)
        self.category_ids = list(getattr(data, "category_ids", self.category_ids))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the ids of the classes."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["category_ids"] = self.category_ids

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the ids of the classes back."""
        self.category_ids = list(checkpoint.get("category_ids", self.category_ids))

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return boxes, labels and scores of each picture, given as uint8 or as floats 0 to 1, ``(3, H, W)``."""
        detections: list[dict[str, Tensor]] = self.network([as_floats(image) for image in images])
        return detections

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the sum of a batch's losses; each is logged by its name."""
        del batch_idx
        losses: dict[str, Tensor] = self.network([as_floats(image) for image in batch.images], batch.targets)
        total = torch.stack(list(losses.values())).sum()
        if not bool(total.isfinite()):
            terms = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            raise UsageError(f"the loss of step {self.global_step} is not finite ({terms}); lower the learning rate")
        how = {"on_step": False, "on_epoch": True, "batch_size": len(batch.images)}
        self.log("train/loss", total, prog_bar=True, **how)  # type: ignore[arg-type]
        terms_by_name = {f"train/loss_{name.removeprefix('loss_')}": value for name, value in losses.items()}
        self.log_dict(terms_by_name, **how)  # type: ignore[arg-type]
        return total

    def on_validation_epoch_start(self) -> None:
        """Forget what an earlier evaluation found."""
        self._found = {}

    def on_test_epoch_start(self) -> None:
        """Forget what an earlier evaluation found."""
        self._found = {}

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Keep what was found in a batch."""
        del batch_idx
        self._keep(batch)

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Keep what was found in a batch."""
        del batch_idx
        self._keep(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._tested = self._score("test")

    def picture_size(self, data: Mapping[str, Any]) -> int:
        """Return the shorter side that pictures are resized to."""
        del data
        return self.image_size

    def costed(self) -> nn.Module:
        """Return the detector behind images of noise and one object in each."""
        return Costed(self.network)

    def preparation(self, data: Mapping[str, Any]) -> Callable[[Picture], Picture]:
        """Return a picture as it is: the detector resizes it."""
        del data
        return lambda picture: picture

    def see(self, images: Sequence[Tensor] | Tensor, truths: Targets | None = None) -> Seen:
        """Run the detector on pictures of any sizes; boxes are what it is sure of, and what is known."""
        pictures = [image.to(self.device) for image in images]
        with torch.no_grad(), recording(self.network, len(pictures)) as maps:
            detections = self(pictures)
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        known: Targets = truths if truths is not None else [nothing] * len(pictures)
        pairs = [found(detection, truth) for detection, truth in zip(detections, known, strict=True)]
        said = [said_of(one, counted=truths is not None) for one in pairs]
        return Seen(maps, self.network.frames, said, [], [marked(one, self.class_names) for one in pairs])

    def cam(self, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return Grad-CAM of the sum of each picture's scores, picture by picture; zeros where nothing is found."""
        layer = class_map_layer(self.network.body, self.image_size)
        return [self._cam(layer, as_floats(image.to(self.device))) for image in images]

    def sorts(self, dataset: Any) -> NDArray[np.int64]:
        """Return the label of each picture's first box, -1 without one."""
        firsts = (dataset.labels_of(i)[:1].tolist() for i in range(len(dataset)))
        return np.array([first[0] if first else -1 for first in firsts], np.int64)

    def _cam(self, layer: nn.Module, image: Tensor) -> Tensor:
        try:
            plane = grad_cam(Scored(self.network), layer, image[None])
        except UsageError:  # no score depends on anything
            return torch.zeros(image.shape[-2:])
        assert self.network.frames is not None  # a picture has just gone through
        (whole,) = to_pictures(plane, self.network.frames)
        return whole / whole.max().clamp(min=1e-9)

    def write_results(self, run: Path, outputs: Sequence[Any], data: Any) -> Results:
        """Write detections, matches, curves and pictures."""
        from visattn.tasks.detection_results import write_boxes

        del outputs  # gathered at the epoch's end already
        assert self._tested is not None
        pictures, scores = self._tested
        return write_boxes(run, pictures, scores, data.dataset("test"), self.class_names, self.category_ids)

    @classmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        """Return COCO's table and each class's line."""
        from visattn.tasks.detection_results import table

        return table(result)

    def _keep(self, batch: DetectionBatch) -> None:
        for place, detections, target in zip(batch.indices.tolist(), self(batch.images), batch.targets, strict=True):
            self._found[place] = found(detections, target)

    def _score(self, split: str) -> tuple[dict[int, Found], BoxScores]:
        """Evaluate once, on rank 0, whatever the pictures' ranks, and tell every rank."""
        pictures = gather(self._found)
        own = evaluate(pictures, self.class_names) if self.trainer.is_global_zero else None
        scores: BoxScores = self.trainer.strategy.broadcast(own)  # type: ignore[assignment]
        logged = {f"{split}/{name}": value for name, value in scores.metrics.items()}
        shown = {f"{split}/{key}" for key in self.spoken}
        self.log_dict({name: value for name, value in logged.items() if name in shown}, prog_bar=split == "val")
        self.log_dict({name: value for name, value in logged.items() if name not in shown})
        return pictures, scores


class Scored(nn.Module):
    """A detector as Grad-CAM asks it: pictures in, the sum of each picture's scores out, ``(N, 1)``.

    Args:
        network: the detector.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the sums."""
        return torch.stack([one["scores"].sum() for one in self.network(list(images))])[:, None]


class Costed(nn.Module):
    """A detector as its cost is measured: images ``(N, 3, S, S)`` of any values in, losses or detections out.

    Args:
        network: the detector.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Return the losses of one object a picture in training mode, else the detections."""
        pictures = list(images.sigmoid())
        if not self.training:
            return self.network(pictures)
        side = images.shape[-1]
        box = images.new_tensor([[side / 4, side / 4, 3 * side / 4, 3 * side / 4]])
        label = torch.zeros(1, dtype=torch.int64, device=images.device)
        return self.network(pictures, [{"boxes": box, "labels": label} for _ in pictures])


def as_floats(image: Tensor) -> Tensor:
    """Return a picture of bytes as floats 0 to 1; floats stay.

    Example:
        >>> as_floats(torch.full((3, 1, 1), 255, dtype=torch.uint8)).max()
        tensor(1.)
    """
    return image if image.is_floating_point() else image.float() / 255
