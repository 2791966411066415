"""A user's own photographs, in whichever layout their folder has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from visattn.data.images import Picture, read_image
from visattn.data.layouts import class_names, fill_splits, label_numbers, read_layout
from visattn.data.loading import AbstractPictures, AbstractPicturesModule
from visattn.data.scenes import SPLITS, Split
from visattn.data.transforms import Pipeline, default_train
from visattn.types import UsageError


@final
class FolderPictures(AbstractPictures):
    """Files of one split, read when they are asked for.

    Args:
        paths: the files.
        labels: ``(n,)`` int64.
        names: a caption of each.
        pipeline: what each picture passes through.
    """

    def __init__(self, paths: list[Path], labels: NDArray[np.int64], names: list[str], pipeline: Pipeline) -> None:
        super().__init__(labels, names, pipeline)
        self._paths = paths

    def picture(self, index: int) -> Picture:
        """Return the file's pixels, upright and RGB whatever its mode."""
        return read_image(self._paths[index])


@final
class FolderData(AbstractPicturesModule):
    """Photographs in a folder; its layout is found out.

    In this order: a ``labels.csv`` with the columns path, label (or class) and, if you like, split;
    folders ``train``, ``val`` and ``test`` of class folders; class folders alone. Splits that the
    folder does not name are drawn class by class, 15 % of the pictures each, by ``split_seed``.

    Args:
        root: the folder.
        image_size: side of the square pictures that the network takes, in pixels.
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation.
        split_seed: draws the splits that the folder does not name.
        workers: processes that read pictures.
        flip: mirror half of the training pictures; off, as it changes letters and signs.
        transforms: training transforms in place of the defaults (random crop of 60 to 100 % and mild
            colour changes), a list such as ``[{RandomResizedCrop: {scale: [0.5, 1.0]}}]`` of
            albumentations' names with their arguments.
        eval_transforms: transforms of validation, test and prediction; null scales the smaller side
            to ``image_size`` and cuts the centre out.

    Raises:
        UsageError: no root, no pictures, one class, a missing file, or an unknown transform.
    """

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 224,
        batch_size: int = 64,
        seed: int = 0,
        split_seed: int = 0,
        workers: int = 0,
        flip: bool = False,
        transforms: list[dict[str, Any]] | None = None,
        eval_transforms: list[dict[str, Any]] | None = None,
    ) -> None:
        if root is None:
            raise UsageError("data.root is not set; valid: --data.root FOLDER with your pictures")
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train=default_train(flip=flip) if transforms is None else transforms,
            evaluation=eval_transforms or [],
        )
        self.save_hyperparameters()
        self._root = Path(root).expanduser()
        found = read_layout(self._root)
        self.class_names = class_names(found)
        self._found = fill_splits(found, split_seed)
        empty = [split for split in SPLITS if not self._found[split]]
        if empty:
            raise UsageError(f"data.root '{root}' leaves {' and '.join(empty)} without pictures: too few a class")

    def build(self, split: Split, pipeline: Pipeline) -> FolderPictures:
        """Return the files of ``split``."""
        rows = self._found[split]
        paths = [row.path for row in rows]
        captions = [path.relative_to(self._root).as_posix() for path in paths]
        return FolderPictures(paths, label_numbers(rows, self.class_names), captions, pipeline)
