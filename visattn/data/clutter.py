"""The embedded data set: handwritten digits in the clutter of photographs, drawn here, nothing downloaded."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from visattn.data.images import Picture
from visattn.data.loading import AbstractPictures, AbstractPicturesModule
from visattn.data.scenes import SMALLEST, SPLITS, SceneMaker, Split
from visattn.data.transforms import Pipeline
from visattn.types import UsageError

_MILD = [{"RandomBrightnessContrast": {"brightness_limit": 0.15, "contrast_limit": 0.15, "p": 0.8}}]


@final
class ClutterPictures(AbstractPictures):
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
class ClutterData(AbstractPicturesModule):
    """Handwritten digits, small in the clutter of photographs: ten classes, no download.

    Scikit-learn's 8x8 digits, enlarged to random sizes and coloured, lie on random crops of its two sample
    photographs among strokes and fragments of other digits. Every picture has a label, a box and a mask. A
    picture depends on ``data_seed``, its split and its place alone; splits share no source digit.

    Args:
        image_size: side of the square pictures in pixels, at least 64.
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
        UsageError: a number is too small, or a transform is unknown.

    Example:
        >>> data = ClutterData(train=64, val=10, test=10, transforms=[])
        >>> next(iter(data.val_dataloader())).images.shape
        torch.Size([10, 3, 64, 64])
    """

    def __init__(
        self,
        image_size: int = 64,
        train: int = 2000,
        val: int = 500,
        test: int = 1000,
        batch_size: int = 64,
        seed: int = 0,
        data_seed: int = 0,
        workers: int = 0,
        transforms: list[dict[str, Any]] | None = None,
    ) -> None:
        if image_size < SMALLEST:
            raise UsageError(f"image_size must be at least {SMALLEST}, got {image_size}: smaller digits cannot be read")
        counts = dict(zip(SPLITS, (train, val, test), strict=True))
        for split, count in counts.items():
            if count < 1:
                raise UsageError(f"{split} must be at least 1 picture, got {count}")
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train=_MILD if transforms is None else transforms,
            evaluation=[],
        )
        self.save_hyperparameters()
        self.class_names = [str(digit) for digit in range(10)]
        self._counts = counts
        self._maker = SceneMaker(image_size, data_seed)

    def build(self, split: Split, pipeline: Pipeline) -> ClutterPictures:
        """Draw the pictures of ``split``."""
        return ClutterPictures(self._maker, split, self._counts[split], pipeline)
