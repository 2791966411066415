"""Pictures with boxes in Pascal VOC's xml, as a data module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from visattn.data.annotations import Annotations
from visattn.data.files import AbstractFilesModule
from visattn.data.voc_xml import read_voc


@final
class VocData(AbstractFilesModule):
    """Pictures with boxes in Pascal VOC's xml; how the folder is laid out is found out, in this order.

    1. ``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` with ``train.txt``, ``val.txt`` and ``test.txt``, also
       inside ``VOCdevkit/VOC2007``. Without train, trainval serves. Without ``ImageSets``, 15 % of the pictures are
       val and 15 % test; the folder of pictures may be called ``images``.
    2. Folders ``train``, ``valid`` and ``test`` with the xml files beside the pictures.

    Without val, 15 % of train serve; without test, val serves as test, with a warning. Classes are sorted naturally.
    Boxes marked ``difficult`` are not trained on and ignored in evaluation: they travel as ``iscrowd``. Edges are taken
    as they are written, as today's tools count, not as 1-based pixels. Boxes are cut at the picture's edge, those
    without area left out; ``notes`` says so. Pictures without boxes are trained on.

    Args:
        root: the folder.
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation, never the splits.
        data_seed: draws the splits that the folder does not give.
        workers: processes that read and augment pictures; 0 does it in the main process.
        transforms: training transforms, a list such as ``[{HorizontalFlip: {p: 0.5}}]`` of albumentations' names with
            their arguments, boxes move along; null means mirrors, mild changes of scale, place and colour.
        flip: whether null mirrors half of the pictures; switch it off for letters, digits and signs.

    Raises:
        UsageError: the folder is missing, broken or contradicts itself, or a transform is unknown.

    Example:
        >>> VocData("no/such/folder").class_names
        Traceback (most recent call last):
        visattn.types.UsageError: root must be a folder with pictures, but no/such/folder is missing
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 16,
        seed: int = 0,
        data_seed: int = 0,
        workers: int = 2,
        transforms: list[dict[str, Any]] | None = None,
        flip: bool = True,
    ) -> None:
        root = str(root)  # a Path in the hyper-parameters would not load with weights_only=True
        super().__init__(root, batch_size, seed, data_seed, workers, transforms, flip)
        self.save_hyperparameters()

    def read(self, root: Path) -> Annotations:
        """Return what the VOC files of ``root`` say."""
        return read_voc(root)
