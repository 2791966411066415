"""What all data modules share: keyed samples, uint8 batches, loaders whose content no worker or rank changes."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self, final

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from visattn.data.images import Picture
from visattn.data.sampling import EpochSampler, EvenBatches, Key
from visattn.data.scenes import SPLITS, Split
from visattn.data.transforms import Pipeline, Specs, one_thread
from visattn.types import ClassificationBatch, UsageError, unknown

_STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": (),
}


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


class AbstractPictures(Dataset[Sample], ABC):
    """A labelled list of pictures; ``pictures[epoch, index]`` or ``pictures[index]`` is a ``Sample``.

    Args:
        labels: ``(n,)`` int64, places in the data module's ``class_names``.
        names: a caption of each.
        pipeline: what each picture passes through.
        seed: decides, with epoch and index, what chance decides in the pipeline.
    """

    def __init__(self, labels: NDArray[np.int64], names: list[str], pipeline: Pipeline, seed: int = 0) -> None:
        self.labels = labels
        self.names = names
        self._pipeline = pipeline
        self._seed = seed

    @abstractmethod
    def picture(self, index: int) -> Picture:
        """Return picture ``index`` as it is stored: RGB bytes ``(H, W, 3)``."""

    def through(self, pipeline: Pipeline, seed: int) -> Self:
        """Return the same pictures, not copied, through another pipeline."""
        other = copy.copy(self)
        other._pipeline, other._seed = pipeline, seed
        return other

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key | int) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        image = self._pipeline(self.picture(index), self._seed, epoch, index)
        return Sample(image, int(self.labels[index]), index)


@final
class _Loader(DataLoader[Any]):
    """A loader whose workers' usage errors arrive as the one line they are, without the worker's traceback."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except UsageError as error:
            last = str(error).strip().splitlines()[-1]
            raise UsageError(last.rpartition("UsageError: ")[2]) from None


class AbstractPicturesModule(L.LightningDataModule, ABC):
    """The data module behind all others: subclasses say what the splits are.

    Args:
        image_size: side of the square pictures in pixels.
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation.
        workers: processes that prepare batches.
        train: training transforms.
        evaluation: transforms of validation and test.
    """

    class_names: list[str]

    def __init__(
        self, *, image_size: int, batch_size: int, seed: int, workers: int, train: Specs, evaluation: Specs
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        if workers < 0:
            raise UsageError(f"workers must be at least 0, got {workers}")
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self._train_pipeline = Pipeline(train, image_size)
        self._eval_pipeline = Pipeline(evaluation, image_size)
        self._splits: dict[Split, AbstractPictures] = {}

    @abstractmethod
    def build(self, split: Split, pipeline: Pipeline) -> AbstractPictures:
        """Return the pictures of ``split``; called once a split."""

    def dataset(self, split: Split) -> AbstractPictures:
        """Return the pictures of ``split`` without augmentation, built at the first call.

        Raises:
            UsageError: ``split`` is none of train, val and test.
        """
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if split not in self._splits:
            self._splits[split] = self.build(split, self._eval_pipeline)
        return self._splits[split]

    def setup(self, stage: str | None = None) -> None:
        """Build what ``stage`` needs and is not there yet."""
        for split in _STAGES.get(str(stage), SPLITS):
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return full batches in a new order each epoch, augmented."""
        pictures = self.dataset("train").through(self._train_pipeline, self.seed)
        rank, world = self._share()
        sampler = self._train_sampler(rank, world)
        return self._loader(pictures, sampler=sampler, batch_size=self.batch_size // world, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return each validation picture once, in order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return each test picture once, in order."""
        return self._eval_loader("test")

    def order_digest(self) -> str:
        """Return a sha256 of the training pictures and of the order in which the first epochs show them.

        Runs with the same digest saw the same pictures at the same steps, whatever their devices and workers.
        """
        pictures, sampler = self.dataset("train"), self._train_sampler(0, 1)
        digest = hashlib.sha256(f"{self.seed} {self.batch_size} {self.class_names}".encode())
        for name, label in zip(pictures.names, pictures.labels.tolist(), strict=True):
            digest.update(f"\n{name}\t{label}".encode())
        for epoch in range(3):
            digest.update(np.asarray(sampler.order(epoch), dtype="<i8").tobytes())
        return digest.hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: the names of the classes."""
        return {"class_names": list(self.class_names)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint that was trained on other classes.

        Raises:
            UsageError: the names differ.
        """
        kept, own = list(state_dict["class_names"]), list(self.class_names)
        if kept != own:
            shown = [", ".join(names[:5]) + (", ..." if len(names) > 5 else "") for names in (kept, own)]
            raise UsageError(
                f"the checkpoint was trained on {len(kept)} classes ({shown[0]}), the data has {len(own)} ({shown[1]})"
            )

    def _share(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _train_sampler(self, rank: int, world: int) -> EpochSampler:
        size = len(self.dataset("train"))
        return EpochSampler(size, self.batch_size, seed=self.seed, rank=rank, world=world, drop_last=True)

    def _eval_loader(self, split: Split) -> DataLoader[Any]:
        pictures = self.dataset(split)
        rank, world = self._share()
        return self._loader(pictures, batch_sampler=EvenBatches(len(pictures), self.batch_size, rank=rank, world=world))

    def _loader(self, pictures: AbstractPictures, **how: Any) -> DataLoader[Any]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return _Loader(
            pictures,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=on_gpu,
            worker_init_fn=one_thread,
            # an own generator: a loader draws a seed at every start, which would move the global stream
            generator=torch.Generator().manual_seed(self.seed),
            **how,
        )
