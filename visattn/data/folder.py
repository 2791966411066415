"""Photographs of one's own: a folder, its layout found out, as a data module."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from visattn.data.images import Picture, read_image
from visattn.data.labelled import AbstractLabelled, collate
from visattn.data.layouts import Listing, read_layout
from visattn.data.loading import AbstractPicturesModule
from visattn.data.scenes import Split
from visattn.data.transforms import Pipeline, default_train


@final
class FolderPictures(AbstractLabelled):
    """Pictures in files, read anew at each use.

    Args:
        files: of each picture its path, its name and its label.
        pipeline: what each picture passes through.
    """

    def __init__(self, files: list[tuple[Path, str, int]], pipeline: Pipeline) -> None:
        labels = np.array([label for _, _, label in files], np.int64)
        super().__init__(labels, [name for _, name, _ in files], pipeline)
        self.paths = [path for path, _, _ in files]

    def picture(self, index: int) -> Picture:
        """Return picture ``index`` as its file holds it, upright, RGB."""
        return read_image(self.paths[index])


@final
class FolderData(AbstractPicturesModule):
    """Photographs in a folder, a class each; how they are laid out is found out, in this order.

    1. ``labels.csv`` in the folder: columns ``path`` and ``label``; optional ``class`` (the label's name) and ``split``
       (train, val or test; without it, 15 % of each class are val and 15 % test).
    2. Folders ``train``, ``val`` (or ``valid``, ``validation``) and ``test`` with a folder a class. Without val,
       15 % of train serve; without test, val serves as test, with a warning.
    3. A folder a class: 15 % of each are val and 15 % test.

    Drawn splits depend on ``data_seed`` and the file names alone. Classes are sorted naturally: 2 before 10.

    Args:
        root: the folder.
        image_size: side of the square pictures that the network gets, in pixels.
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation, never the splits.
        data_seed: draws the splits that the folder does not give.
        workers: processes that read and augment pictures; 0 does it in the main process.
        transforms: training transforms, a list such as ``[{HorizontalFlip: {p: 0.5}}]`` of albumentations' names with
            their arguments; sizes left out are ``image_size``. Null means random crops and mild changes of colour.
        eval_transforms: the same for validation, test and prediction; null scales the smaller side to ``image_size``
            and cuts the centre out, which also ends every other list.
        flip: mirror half of the training pictures too; off, as mirroring changes letters, digits and hands.

    Raises:
        UsageError: the folder is missing or contradicts itself, or a transform is unknown.

    Example:
        >>> FolderData("no/such/folder").class_names
        Traceback (most recent call last):
        visattn.types.UsageError: root must be a folder with pictures, but no/such/folder is missing
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        batch_size: int = 64,
        seed: int = 0,
        data_seed: int = 0,
        workers: int = 2,
        transforms: list[dict[str, Any]] | None = None,
        eval_transforms: list[dict[str, Any]] | None = None,
        flip: bool = False,
    ) -> None:
        root = str(root)  # a Path in the hyper-parameters would not load with weights_only=True
        mirror = [{"HorizontalFlip": {"p": 0.5}}] if flip else []
        super().__init__(
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train=Pipeline((default_train() if transforms is None else transforms) + mirror, image_size),
            evaluation=Pipeline(eval_transforms or [], image_size),
            collate=collate,
        )
        self.image_size = image_size
        self.save_hyperparameters(ignore=["mirror"])
        self._root, self._data_seed = Path(root).expanduser(), data_seed

    @cached_property
    def listing(self) -> Listing:
        """The classes, the splits and what had to be decided about them."""
        return read_layout(self._root, self._data_seed)

    @property
    def class_names(self) -> list[str]:  # type: ignore[override]
        """The names of the classes, in the order of the network's outputs."""
        return self.listing.class_names

    @property
    def notes(self) -> list[str]:
        """What the folder left open and how it was decided, such as a missing test split."""
        return self.listing.notes

    def build(self, split: Split, pipeline: Pipeline) -> FolderPictures:
        """List the pictures of ``split``; they are read when they are used."""
        return FolderPictures(self.listing.splits[split], pipeline)
