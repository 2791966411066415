"""Augmentation depends on the given integers alone, and what a YAML gets wrong is named."""

import numpy as np
import pytest

from visattn.data.transforms import Pipeline, default_train, eval_transform
from visattn.types import UsageError

PICTURE = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
FLIPS = [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}]


def test_pixels_depend_on_the_seed_alone():
    one, other = Pipeline(default_train(), 32), Pipeline(default_train(), 32)
    wanted = [one(PICTURE, 3, 0, index) for index in range(4)]
    for index in (2, 0, 3, 1):  # any order, any instance, any history
        assert np.array_equal(other(PICTURE, 3, 0, index), wanted[index])
    assert len({image.tobytes() for image in wanted}) == 4
    assert not np.array_equal(one(PICTURE, 3, 1, 0), wanted[0])


def test_two_transforms_of_one_pipeline_are_independent():
    """albumentations' own seeding makes two flips of p=0.5 always act together."""
    square = PICTURE[:32, :32]
    pipeline = Pipeline(FLIPS, 32)
    outcomes = {pipeline(square, index).tobytes() for index in range(40)}
    assert outcomes == {square[::y, ::x].tobytes() for x in (1, -1) for y in (1, -1)}


@pytest.mark.parametrize(
    "specs",
    [
        [{"RandomResizedCrop": None}],
        [{"RandomCrop": {"pad_if_needed": True}}],
        [{"Resize": {}}],
        [{"CenterCrop": {"height": 20, "width": 10}}],
        [{"SmallestMaxSize": {}}],
        [{"LongestMaxSize": {}}, {"PadIfNeeded": {}}],
        [{"OneOf": {"transforms": [{"Blur": {"blur_limit": 3}}, {"HorizontalFlip": {"p": 1}}], "p": 1}}],
        [{"ToGray": {"p": 1}}],
    ],
)
def test_any_pipeline_ends_in_the_asked_size(specs):
    image = Pipeline(specs, 48)(PICTURE, 1)
    assert (image.shape, image.dtype) == ((48, 48, 3), np.uint8)


def test_evaluation_is_rebuilt_from_plain_values():
    plain = eval_transform(40)(PICTURE)
    assert np.array_equal(plain, eval_transform(40, [])(PICTURE, 9, 9))
    flipped = eval_transform(40, [{"HorizontalFlip": {"p": 1.0}}])(PICTURE)
    assert np.abs(flipped[:, ::-1].astype(int) - plain).max() <= 1


def test_a_picture_too_small_for_its_crop_is_named():
    with pytest.raises(UsageError, match="RandomCrop fail on a picture of 30x20"):
        Pipeline([{"RandomCrop": {}}], 32)(PICTURE[:20, :30])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"HorizontalFlop": {}}, ["'HorizontalFlop'", "did you mean 'HorizontalFlip'"]),
        ({"RandomResizedCrop": {"scle": [0.5, 1]}}, ["'scle'", "did you mean 'scale'", "ratio"]),
        ({"ColorJitter": {"brightness": "much"}}, ["ColorJitter", "much"]),
        ({"RandomResizedCrop": {"scale": [2, 3]}}, ["RandomResizedCrop", "scale"]),
        ({"HorizontalFlip": 0.5}, ["HorizontalFlip", "mapping", "0.5"]),
        ({"OneOf": {"transforms": [{"Blurr": {}}]}}, ["'Blurr'", "did you mean 'Blur'"]),
        ({"HorizontalFlip": {}, "Blur": {}}, ["one name"]),
        ("HorizontalFlip", ["one name", "'HorizontalFlip'"]),
        ({"Normalize": {}}, ["Normalize", "device"]),
        ({"CenterCrop": {"height": 5000, "width": 5000}}, ["CenterCrop", "fail"]),
    ],
)
def test_mistakes_are_named_in_one_line(spec, words):
    with pytest.raises(UsageError) as caught:
        Pipeline([spec], 32)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
