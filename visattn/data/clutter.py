"""The embedded data set: handwritten digits in the clutter of photographs, drawn here, nothing downloaded."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from visattn.data.boxed import AbstractBoxed, collate_boxed
from visattn.data.images import Picture
from visattn.data.labelled import AbstractLabelled, collate
from visattn.data.loading import AbstractPicturesModule
from visattn.data.objects import Objects
from visattn.data.scenes import SMALLEST, SMALLEST_FIELD, SPLITS, SceneMaker, Split
from visattn.data.transforms import Pipeline
from visattn.types import UsageError, unknown

_SMALLEST = {"classification": SMALLEST, "detection": SMALLEST_FIELD}
_MILD = [{"RandomBrightnessContrast": {"brightness_limit": 0.15, "contrast_limit": 0.15, "p": 0.8}}]


@final
class ClutterPictures(AbstractLabelled):
    """Drawn pictures, held in memory; besides labels and names they know where their digit is.

    Args:
        maker: draws the pictures.
        split: which of its splits.
        count: how many.
        pipeline: what each picture passes through.
    """

    def __init__(self, maker: SceneMaker, split: Split, count: int, pipeline: Pipeline) -> None:
        names = [f"{split}-{index:05d}" for index in range(count)]
        super().__init__(np.arange(count, dtype=np.int64) % 10, names, pipeline)
        self._maker, self._split = maker, split
        self._images = np.empty((count, maker.size, maker.size, 3), np.uint8)
        self.boxes: NDArray[np.float32] = np.empty((count, 4), np.float32)  # xyxy, in pixels
        for index in range(count):
            scene = maker.draw(split, index)
            self._images[index], self.boxes[index] = scene.image, scene.box

    def picture(self, index: int) -> Picture:
        """Return picture ``index`` without augmentation."""
        return self._images[index]

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return where the digit of picture ``index`` is: ``(H, W)``; drawn again, not stored."""
        return self._maker.draw(self._split, index).mask


@final
class ClutterFields(AbstractBoxed):
    """Drawn pictures with several digits or none, held in memory; they know where each digit is.

    Args:
        maker: draws the pictures.
        split: which of its splits.
        count: how many.
        pipeline: what each picture passes through.
    """

    def __init__(self, maker: SceneMaker, split: Split, count: int, pipeline: Pipeline) -> None:
        self._maker, self._split = maker, split
        self._images = np.empty((count, maker.size, maker.size, 3), np.uint8)
        objects = []
        for index in range(count):
            field = maker.draw_field(split, index)
            self._images[index] = field.image
            objects.append(Objects.of(field.boxes, field.labels))
        super().__init__(objects, [f"{split}-{index:05d}" for index in range(count)], pipeline)

    def picture(self, index: int) -> Picture:
        """Return picture ``index`` without augmentation."""
        return self._images[index]

    def masks(self, index: int) -> NDArray[np.bool_]:
        """Return where each digit of picture ``index`` is: ``(n, H, W)``; drawn again, not stored."""
        return self._maker.draw_field(self._split, index).masks


@final
class ClutterData(AbstractPicturesModule):
    """Handwritten digits, small in the clutter of photographs: ten classes, no download.

    Scikit-learn's 8x8 digits, enlarged to random sizes and coloured, lie on random crops of its two sample
    photographs among strokes and fragments of other digits. A picture depends on ``data_seed``, its split and its
    place alone; splits share no source digit. For classification a picture has one digit, with its label, box and
    mask; for detection up to three that do not touch, and one picture in thirteen has none.

    Args:
        task: ``classification`` or ``detection``: what the pictures hold and what the batches are.
        image_size: side of the square pictures in pixels, at least 64, for detection 96; null means this least.
        train: number of training pictures.
        val: number of validation pictures.
        test: number of test pictures.
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation, never the pictures.
        data_seed: draws the pictures.
        workers: processes that prepare batches; the pictures lie in memory, so 0 is mostly the fastest.
        transforms: training transforms, a list such as ``[{ColorJitter: {p: 0.5}}]`` of albumentations' names with
            their arguments; null means mild changes of brightness and contrast, ``[]`` none.

    Raises:
        UsageError: a number is too small, or a task or transform is unknown.

    Example:
        >>> data = ClutterData(train=64, val=10, test=10, transforms=[])
        >>> next(iter(data.val_dataloader())).images.shape
        torch.Size([10, 3, 64, 64])
        >>> data = ClutterData("detection", train=64, val=10, test=10, transforms=[])
        >>> next(iter(data.val_dataloader())).targets[0]["boxes"].shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        task: Literal["classification", "detection"] = "classification",
        image_size: int | None = None,
        train: int = 2000,
        val: int = 500,
        test: int = 1000,
        batch_size: int = 64,
        seed: int = 0,
        data_seed: int = 0,
        workers: int = 0,
        transforms: list[dict[str, Any]] | None = None,
    ) -> None:
        if task not in _SMALLEST:
            raise unknown("task", task, _SMALLEST)
        least = _SMALLEST[task]
        image_size = least if image_size is None else image_size  # a number in the hyper-parameters, too
        if image_size < least:
            raise UsageError(
                f"image_size must be at least {least} for {task}, got {image_size}: smaller digits cannot be read"
            )
        counts = dict(zip(SPLITS, (train, val, test), strict=True))
        for split, count in counts.items():
            if count < 1:
                raise UsageError(f"{split} must be at least 1 picture, got {count}")
        self._boxed = task == "detection"
        size = None if self._boxed else image_size
        super().__init__(
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train=Pipeline(_MILD if transforms is None else transforms, size),
            evaluation=Pipeline([], size),
            collate=collate_boxed if self._boxed else collate,
        )
        self.save_hyperparameters(ignore=["least", "counts", "size", "split", "count"])
        self.image_size = image_size
        self.class_names = [str(digit) for digit in range(10)]
        self.category_ids = list(range(1, 11))  # as in VocData: what COCO's json calls the classes
        self._counts = counts
        self._maker = SceneMaker(image_size, data_seed)

    def build(self, split: Split, pipeline: Pipeline) -> ClutterPictures | ClutterFields:
        """Draw the pictures of ``split``."""
        kind = ClutterFields if self._boxed else ClutterPictures
        return kind(self._maker, split, self._counts[split], pipeline)
