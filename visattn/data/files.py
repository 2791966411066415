"""Pictures with boxes in files: what CocoData and VocData share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, final

from visattn.data.annotations import Annotations, BoxListing, Located, settle
from visattn.data.boxed import AbstractBoxed, collate_boxed
from visattn.data.images import Picture, read_image
from visattn.data.loading import AbstractPicturesModule
from visattn.data.scenes import Split
from visattn.data.transforms import Pipeline, default_boxed
from visattn.types import UsageError


@final
class BoxedFiles(AbstractBoxed):
    """Pictures in files, read anew at each use.

    Args:
        located: where each picture is and what is marked in it.
        pipeline: what each picture passes through with its boxes.
    """

    def __init__(self, located: list[Located], pipeline: Pipeline) -> None:
        names = [one.name for one in located]
        super().__init__([one.objects for one in located], names, pipeline, [one.image_id for one in located])
        self.paths = [one.path for one in located]
        self.sizes = [one.size for one in located]

    def picture(self, index: int) -> Picture:
        """Return picture ``index`` as its file holds it, upright, RGB.

        Raises:
            UsageError: it cannot be read, or its size is not the one that its annotation states.
        """
        image = read_image(self.paths[index])
        size = (image.shape[1], image.shape[0])
        if size != self.sizes[index]:
            has, stated = (f"{width}x{height}" for width, height in (size, self.sizes[index]))
            raise UsageError(
                f"{self.paths[index]} has {has} pixels, but its annotation says {stated}, so its boxes may lie "
                "elsewhere; visattn data check lists all such pictures"
            )
        return image


class AbstractFilesModule(AbstractPicturesModule, ABC):
    """The data module of annotated files: subclasses say how these are read."""

    def __init__(
        self,
        root: str,
        batch_size: int,
        seed: int,
        data_seed: int,
        workers: int,
        transforms: list[dict[str, Any]] | None,
        flip: bool,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train=Pipeline(default_boxed(flip) if transforms is None else transforms, None),
            evaluation=Pipeline([], None),
            collate=collate_boxed,
        )
        self._root, self._data_seed = Path(root).expanduser(), data_seed

    @abstractmethod
    def read(self, root: Path) -> Annotations:
        """Return what the annotation files of ``root`` say."""

    @cached_property
    def listing(self) -> BoxListing:
        """The classes, the splits, and what had to be repaired or decided."""
        if not self._root.is_dir():
            state = "a file" if self._root.exists() else "missing"
            raise UsageError(f"root must be a folder with pictures, but {self._root} is {state}")
        return settle(self.read(self._root), self._data_seed)

    @property
    def class_names(self) -> list[str]:  # type: ignore[override]
        """The names of the classes, background not among them, in the order of the detector's labels."""
        return self.listing.class_names

    @property
    def category_ids(self) -> list[int]:
        """The id of each class in the annotation files, to write results back; from 1 where these have none."""
        keys = self.listing.class_keys
        return [key if isinstance(key, int) else place for place, key in enumerate(keys, 1)]

    @property
    def notes(self) -> list[str]:
        """What the folder left open or got wrong, and what was made of it."""
        return self.listing.notes

    def build(self, split: Split, pipeline: Pipeline) -> BoxedFiles:
        """List the pictures of ``split``; they are read when they are used."""
        return BoxedFiles(self.listing.splits[split], pipeline)
