"""Pictures with boxes in COCO's json, as a data module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from visattn.data.annotations import Annotations
from visattn.data.coco_json import read_coco
from visattn.data.files import AbstractFilesModule


@final
class CocoData(AbstractFilesModule):
    """Pictures with boxes in COCO's json; how the folder is laid out is found out, in this order.

    1. ``annotations/instances_train2017.json`` or the like, one a split; pictures in folders named after it or after
       the split (also inside ``images``), in ``images``, or in the folder itself.
    2. Roboflow's export: ``train``, ``valid`` and ``test`` with ``_annotations.coco.json`` beside the pictures.
    3. One json file for all: 15 % of the pictures are val and 15 % test.

    Without val, 15 % of train serve; without test, val serves as test, with a warning. Categories are numbered from 0
    in the order of their ids (``category_ids`` leads back); those without any box are left out. Boxes marked
    ``iscrowd`` are not trained on and ignored in evaluation, as COCO does it. Boxes are cut at the picture's edge,
    those without area left out; ``notes`` says so. Pictures without boxes are trained on.

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
        >>> CocoData("no/such/folder").class_names
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
        """Return what the COCO files of ``root`` say."""
        return read_coco(root)
