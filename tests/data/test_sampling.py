"""Order is a pure function of (seed, epoch), and ranks share the batches that one process would see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visattn.data.sampling import EpochSampler, EvenBatches
from visattn.data.seeding import stable_hash, stable_order
from visattn.types import UsageError

LAYOUTS = st.tuples(st.integers(1, 200), st.integers(1, 5), st.integers(1, 8))  # samples, ranks, batch of a rank


def chunks(keys, size):
    return [keys[start : start + size] for start in range(0, len(keys), size)]


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, st.booleans(), st.integers(0, 3))
def test_ranks_together_see_the_batches_of_one_process(layout, drop_last, epoch):
    length, world, local = layout
    if drop_last and length < world * local:
        return
    samplers = [
        EpochSampler(length, world * local, seed=5, rank=rank, world=world, drop_last=drop_last)
        for rank in range(world)
    ]
    alone = EpochSampler(length, world * local, seed=5, drop_last=drop_last)
    for sampler in (alone, *samplers):
        sampler.set_epoch(epoch)
    whole = chunks(list(alone), world * local)
    shares = [chunks(list(sampler), local) for sampler in samplers]
    for step, batch in enumerate(whole):
        for rank in range(world):
            assert (shares[rank][step] if step < len(shares[rank]) else []) == batch[rank::world]
    assert [len(sampler) for sampler in samplers] == [sum(map(len, share)) for share in shares]
    seen = sorted(index for _, index in alone)
    assert len(seen) == len(set(seen)) == (length - length % (world * local) if drop_last else length)
    assert {key[0] for key in alone} <= {epoch}


@settings(max_examples=60, deadline=None)
@given(LAYOUTS)
def test_evaluation_sees_each_sample_once_in_equally_many_batches(layout):
    length, world, local = layout
    if length < world:
        return
    ranks = [EvenBatches(length, world * local, rank=rank, world=world) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    assert len({len(own) for own in batches}) == 1
    assert [len(rank) for rank in ranks] == [len(own) for own in batches]
    assert all(1 <= len(batch) <= local + 1 for own in batches for batch in own)
    assert sorted(key for own in batches for batch in own for key in batch) == [(0, index) for index in range(length)]


def test_order_changes_with_epoch_and_seed_alone():
    sampler = EpochSampler(100, 10, seed=1)
    first = sampler.order(0)
    assert sampler.order(0) == first == EpochSampler(100, 50, seed=1).order(0)
    assert sampler.order(1) != first != EpochSampler(100, 10, seed=2).order(0)
    assert EpochSampler(100, 10, seed=1, shuffle=False).order(3) == list(range(100))


def test_orders_are_fair():
    """Each of 8 samples comes first about equally often: chi-square with 7 degrees of freedom."""
    firsts = np.bincount([stable_order(8, seed, 0)[0] for seed in range(4000)], minlength=8)
    assert ((firsts - 500) ** 2 / 500).sum() < 24.3  # exceeded once in a thousand


def test_the_hash_is_splitmix64():
    # the generator's published first outputs from state 0 (Vigna, splitmix64.c)
    assert stable_hash(0) == 0xE220A8397B1DCDAF
    assert stable_hash(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EpochSampler(100, 10, world=4), ["10", "4 devices", "multiples of 4, such as 8 or 12"]),
        (lambda: EpochSampler(100, 0), ["batch_size", "at least 1"]),
        (lambda: EpochSampler(100, 8, rank=2, world=2), ["rank", "0 to 1"]),
        (lambda: EpochSampler(30, 64, drop_last=True), ["64", "30"]),
        (lambda: EvenBatches(100, 9, world=2), ["9", "2 devices"]),
        (lambda: EvenBatches(1, 2, world=2), ["1 pictures", "2 devices"]),
    ],
)
def test_errors_name_value_and_limit(make, words):
    with pytest.raises(UsageError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
