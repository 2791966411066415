"""What all data modules share: keyed samples, uint8 batches, loaders whose content no worker or rank changes."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Self, final

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from visattn.data.images import Picture
from visattn.data.sampling import EpochSampler, EvenBatches, Key
from visattn.data.scenes import SPLITS, Split
from visattn.data.transforms import Pipeline, one_thread
from visattn.types import UsageError, unknown

_STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": (),
}


class AbstractPictures(Dataset[Any], ABC):
    """A list of pictures with what is known of each; ``pictures[epoch, index]`` or ``pictures[index]`` is a sample.

    Args:
        names: a caption of each.
        pipeline: what each picture passes through.
    """

    def __init__(self, names: list[str], pipeline: Pipeline) -> None:
        self.names = names
        self.training = False
        self._pipeline = pipeline
        self._seed = 0

    @abstractmethod
    def picture(self, index: int) -> Picture:
        """Return picture ``index`` as it is stored: RGB bytes ``(H, W, 3)``."""

    @abstractmethod
    def sample(self, index: int, *seed: int) -> Any:
        """Return picture ``index`` through the pipeline as ``seed`` decides, with what is known of it."""

    @abstractmethod
    def describe(self, index: int) -> str:
        """Return what is known of picture ``index`` as text that differs where the knowledge differs."""

    def through(self, pipeline: Pipeline, seed: int) -> Self:
        """Return the same pictures, not copied, for training: through a pipeline that ``seed`` moves."""
        other = copy.copy(self)
        other._pipeline, other._seed, other.training = pipeline, seed, True
        return other

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: Key | int) -> Any:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        return self.sample(index, self._seed, epoch, index)


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
        batch_size: pictures a step over all devices.
        seed: draws order and augmentation.
        workers: processes that prepare batches.
        train: what training pictures pass through.
        evaluation: the same for validation and test.
        collate: makes a batch of samples.
    """

    class_names: list[str]

    def __init__(
        self,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        train: Pipeline,
        evaluation: Pipeline,
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        if workers < 0:
            raise UsageError(f"workers must be at least 0, got {workers}")
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self._train_pipeline = train
        self._eval_pipeline = evaluation
        self._collate = collate
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
        for index, name in enumerate(pictures.names):
            digest.update(f"\n{name}\t{pictures.describe(index)}".encode())
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
            collate_fn=self._collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=on_gpu,
            worker_init_fn=one_thread,
            # an own generator: a loader draws a seed at every start, which would move the global stream
            generator=torch.Generator().manual_seed(self.seed),
            **how,
        )
