"""In which order samples are seen: a pure function of (seed, epoch), cut so that ranks share global batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, final

from torch.utils.data import Sampler

from visattn.data.seeding import stable_order
from visattn.types import UsageError

Key: TypeAlias = tuple[int, int]  # (epoch, index): all that a sample's pixels may depend on, besides the seed


def _check_share(batch_size: int, rank: int, world: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= rank < world:
        raise UsageError(f"rank must lie in 0 to {world - 1}, got {rank}")
    if batch_size % world:
        near = max(world, batch_size // world * world)
        raise UsageError(
            f"batch_size {batch_size} (pictures a step over all devices) is not divisible by {world} devices; "
            f"valid: multiples of {world}, such as {near} or {near + world}"
        )


@final
class EpochSampler(Sampler[Key]):
    """Yield one rank's share of an epoch as ``(epoch, index)`` keys.

    The order is drawn anew each epoch from ``(seed, epoch)`` alone and cut into global batches; a rank takes
    ``batch[rank::world]`` of each, so the ranks' k-th local batches together are the k-th batch of one process.
    A loader with a batch of ``batch_size // world`` cuts this stream at the right places.

    Args:
        length: number of samples of the dataset.
        batch_size: samples a step over all ranks.
        seed: draws the order.
        shuffle: False keeps the dataset's order in every epoch.
        rank: this process among all.
        world: number of processes.
        drop_last: leave out the samples that do not fill a global batch (training needs equally full ranks).

    Raises:
        UsageError: ``batch_size`` is not divisible by ``world``, or ``drop_last`` leaves nothing.

    Example:
        >>> [list(EpochSampler(4, 2, shuffle=False, rank=rank, world=2)) for rank in range(2)]
        [[(0, 0), (0, 2)], [(0, 1), (0, 3)]]
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
    ) -> None:
        _check_share(batch_size, rank, world)
        if drop_last and length < batch_size:
            raise UsageError(f"batch_size {batch_size} is larger than the {length} training pictures; lower it")
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self._length = length
        self._used = length - length % batch_size if drop_last else length
        self._rank, self._world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; Lightning calls this."""
        self.epoch = epoch

    def order(self, epoch: int) -> list[int]:
        """Return the indices of ``epoch`` over all ranks, in the order of one process."""
        order = stable_order(self._length, self.seed, epoch).tolist() if self.shuffle else range(self._length)
        return list(order[: self._used])

    def __iter__(self) -> Iterator[Key]:
        # batch_size is a multiple of world: one stride over the epoch is batch[rank::world] of every batch
        return iter([(self.epoch, index) for index in self.order(self.epoch)[self._rank :: self._world]])

    def __len__(self) -> int:
        return len(range(self._rank, self._used, self._world))


@final
class EvenBatches(Sampler[list[Key]]):
    """Yield one rank's batches for evaluation: every sample once, equally many batches on every rank.

    Equal counts, since a wrapped model synchronises its buffers at every forward and would wait for ever for a
    rank that has run out. Samples are neither repeated nor dropped; so the last batch may hold one more than
    ``batch_size // world``. Keys carry epoch 0: evaluation never changes.

    Args:
        length: number of samples of the dataset.
        batch_size: samples a step over all ranks.
        rank: this process among all.
        world: number of processes.

    Raises:
        UsageError: ``batch_size`` is not divisible by ``world``, or there are fewer samples than ranks.

    Example:
        >>> list(EvenBatches(5, 2, rank=0, world=2))
        [[(0, 0)], [(0, 2), (0, 4)]]
    """

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        _check_share(batch_size, rank, world)
        if length < world:
            raise UsageError(f"{length} pictures cannot be evaluated on {world} devices; use at most {max(1, length)}")
        self._indices = range(rank, length, world)
        self._size = batch_size // world
        self._count = -(-(length // world) // self._size)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(self._count):
            stop = (batch + 1) * self._size if batch + 1 < self._count else None
            yield [(0, index) for index in self._indices[batch * self._size : stop]]

    def __len__(self) -> int:
        return self._count
