"""Pictures with boxes, and the batches that a detector takes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visattn.data.images import Picture
from visattn.data.loading import AbstractPictures
from visattn.data.objects import Objects
from visattn.data.transforms import Pipeline
from visattn.types import DetectionBatch


class BoxedSample(NamedTuple):
    """One picture as a loader's worker hands it on."""

    image: Picture  # (H, W, 3)
    target: dict[str, Tensor]
    position: int  # in its dataset


def collate_boxed(samples: Sequence[BoxedSample]) -> DetectionBatch:
    """List samples as a batch: sizes differ, so nothing is stacked.

    Example:
        >>> sample = BoxedSample(np.zeros((8, 9, 3), np.uint8), {"boxes": torch.zeros(0, 4)}, position=0)
        >>> collate_boxed([sample]).images[0].shape
        torch.Size([3, 8, 9])
    """
    # contiguous: a flip is a view with negative strides, which torch refuses
    images = [torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1) for sample in samples]
    positions = torch.tensor([sample.position for sample in samples])
    return DetectionBatch(images, [sample.target for sample in samples], positions)


class AbstractBoxed(AbstractPictures, ABC):
    """A list of pictures with boxes; those without are kept, as a detector learns from them what is nothing.

    A target holds ``boxes`` ``(n, 4)`` float32 and ``labels`` ``(n,)`` int64; outside training also ``iscrowd``
    ``(n,)`` int64 and ``area`` ``(n,)`` float32, which evaluation as COCO does it needs.

    Args:
        objects: what is marked in each picture.
        names: a caption of each.
        pipeline: what each picture passes through with its boxes.
        image_ids: what the format calls each picture; its place if left out.
    """

    def __init__(
        self,
        objects: list[Objects],
        names: list[str],
        pipeline: Pipeline,
        image_ids: Sequence[int | str] | None = None,
    ) -> None:
        super().__init__(names, pipeline)
        self.objects = objects
        self.image_ids = list(range(len(names))) if image_ids is None else list(image_ids)

    def boxes(self, index: int) -> NDArray[np.float32]:
        """Return the boxes of picture ``index``: ``(n, 4)``, xyxy in pixels, crowds among them."""
        return self.objects[index].boxes

    def labels_of(self, index: int) -> NDArray[np.int64]:
        """Return the labels of its boxes: ``(n,)``, places in ``class_names``."""
        return self.objects[index].labels

    def sample(self, index: int, *seed: int) -> BoxedSample:
        """Return picture ``index`` through the pipeline, with what is marked in it."""
        objects = self.objects[index]
        if self.training:
            objects = objects.at(~objects.iscrowd)
        image, boxes, places = self._pipeline.boxed(self.picture(index), objects.boxes, *seed)
        left = objects.at(places)
        target = {"boxes": torch.from_numpy(boxes.copy()), "labels": torch.from_numpy(left.labels)}
        if not self.training:
            target |= {"iscrowd": torch.from_numpy(left.iscrowd.astype(np.int64)), "area": torch.from_numpy(left.area)}
        return BoxedSample(image, target, index)

    def describe(self, index: int) -> str:
        """Return labels, boxes and crowds of picture ``index``."""
        return " ".join(str(column.tolist()) for column in self.objects[index][:3])
