"""The embedded pictures: pure functions of their seed, their labels, boxes and masks true, their splits apart."""

import numpy as np
import pytest

from visattn.data import ClutterData
from visattn.data.scenes import SPLITS, SceneMaker
from visattn.types import UsageError


@pytest.mark.parametrize("size", [64, 97, 160])
def test_a_picture_depends_on_its_place_alone(size):
    one, other = SceneMaker(size, 3), SceneMaker(size, 3)
    wanted = [one.draw("val", index) for index in range(6)]
    for index in (5, 2, 0):
        again = other.draw("val", index)
        assert np.array_equal(again.image, wanted[index].image)
        assert np.array_equal(again.mask, wanted[index].mask)
    pictures = {
        SceneMaker(size, seed).draw(split, index).image.tobytes()
        for seed in (3, 4) for split in SPLITS for index in (0, 10)
    }  # fmt: skip
    assert len(pictures) == 12


@pytest.mark.parametrize("size", [64, 128])
def test_masks_and_boxes_lie_on_the_digit(size):
    maker = SceneMaker(size)
    for index in range(40):
        scene = maker.draw("train", index)
        rows, columns = np.nonzero(scene.mask)
        assert scene.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert scene.label == index % 10
        assert 0.01 < scene.mask.mean() < 0.25  # small in its picture
        inside = scene.image[scene.mask].astype(float)
        # one colour: the pixels of a digit differ less among themselves than those of the picture
        assert inside.std(axis=0).mean() < scene.image.reshape(-1, 3).std(axis=0).mean()


def test_splits_share_no_digit():
    maker = SceneMaker(64)
    sources = [maker.sources(split) for split in SPLITS]
    assert sum(map(len, sources)) == len(set().union(*sources)) == 1797
    assert all(len(own) > 200 for own in sources)


def test_the_seed_moves_the_order_never_the_pictures():
    one, other = (ClutterData(train=20, val=5, test=5, batch_size=5, seed=seed) for seed in (0, 1))
    assert np.array_equal(one.dataset("train").picture(7), other.dataset("train").picture(7))
    assert one.order_digest() != other.order_digest()
    moved = ClutterData(train=20, val=5, test=5, batch_size=5, data_seed=1)
    assert not np.array_equal(one.dataset("train").picture(7), moved.dataset("train").picture(7))


def test_a_longer_set_begins_with_the_shorter():
    short, long = (ClutterData(train=count, val=1, test=1).dataset("train") for count in (5, 9))
    assert all(np.array_equal(short.picture(index), long.picture(index)) for index in range(5))


def test_datasets_know_labels_names_boxes_and_masks():
    pictures = ClutterData(train=1, val=23, test=1).dataset("val")
    assert pictures.labels.tolist() == [index % 10 for index in range(23)]
    assert len(set(pictures.names)) == len(pictures) == 23
    scene = SceneMaker(64).draw("val", 12)
    assert np.array_equal(pictures.boxes[12], scene.box)
    assert np.array_equal(pictures.mask(12), scene.mask)
    assert np.array_equal(pictures[12].image, scene.image)
    assert pictures[(4, 12)].label == 2
    with pytest.raises(IndexError):
        pictures[23]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 48}, ["image_size", "64", "48"]),
        ({"val": 0}, ["val", "at least 1", "0"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"workers": -1}, ["workers", "-1"]),
        ({"transforms": [{"Flip": {}}]}, ["transform", "'Flip'"]),
    ],
)
def test_errors_name_value_and_limit(arguments, words):
    with pytest.raises(UsageError) as caught:
        ClutterData(**arguments)
    assert all(word in str(caught.value) for word in words)
