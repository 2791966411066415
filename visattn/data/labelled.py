"""Pictures with a label each, and the batches that a classifier takes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from visattn.data.images import Picture
from visattn.data.loading import AbstractPictures
from visattn.data.transforms import Pipeline
from visattn.types import ClassificationBatch


class Sample(NamedTuple):
    """One picture as a loader's worker hands it on."""

    image: Picture  # (H, W, 3)
    label: int
    position: int  # in its dataset


def collate(samples: Sequence[Sample]) -> ClassificationBatch:
    """Stack samples to a batch; a permuted view of the bytes is ``(N, 3, H, W)`` in channels_last for free.

    Example:
        >>> collate([Sample(np.zeros((8, 8, 3), np.uint8), label=1, position=0)]).images.shape
        torch.Size([1, 3, 8, 8])
    """
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # (N, H, W, 3)
    labels = torch.tensor([sample.label for sample in samples])
    return ClassificationBatch(
        images.permute(0, 3, 1, 2), labels, torch.tensor([sample.position for sample in samples])
    )


class AbstractLabelled(AbstractPictures, ABC):
    """A list of pictures with a label each.

    Args:
        labels: ``(n,)`` int64, places in the data module's ``class_names``.
        names: a caption of each.
        pipeline: what each picture passes through.
    """

    def __init__(self, labels: NDArray[np.int64], names: list[str], pipeline: Pipeline) -> None:
        super().__init__(names, pipeline)
        self.labels = labels

    def sample(self, index: int, *seed: int) -> Sample:
        """Return picture ``index`` through the pipeline, with its label."""
        return Sample(self._pipeline(self.picture(index), *seed), int(self.labels[index]), index)

    def describe(self, index: int) -> str:
        """Return the label of picture ``index``."""
        return str(int(self.labels[index]))
