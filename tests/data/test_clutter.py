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


@pytest.mark.parametrize("size", [96, 160])
def test_fields_hold_up_to_three_digits_that_do_not_touch(size):
    maker = SceneMaker(size)
    fields = [maker.draw_field("train", index) for index in range(120)]
    counts = np.bincount([len(field.labels) for field in fields])
    assert len(counts) == 4
    assert counts.min() >= 3  # empty ones among them
    assert set(np.concatenate([field.labels for field in fields])) == set(range(10))
    for field in fields:
        assert field.boxes.shape == (len(field.labels), 4)
        assert field.masks.shape == (len(field.labels), size, size)
        assert field.masks.sum(axis=0).max() <= 1
        for mask, box in zip(field.masks, field.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert tuple(box) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            x1, y1, x2, y2 = box.astype(int)
            assert mask.sum() == field.masks[:, y1:y2, x1:x2].sum()  # no other digit reaches into the box
            assert 0.003 < mask.mean() < 0.12
            inside = field.image[mask].astype(float)
            assert inside.std(axis=0).mean() < field.image.reshape(-1, 3).std(axis=0).mean() + 12


def test_fields_depend_on_their_place_alone():
    one, other = SceneMaker(96, 3), SceneMaker(96, 3)
    wanted = [one.draw_field("val", index) for index in range(5)]
    for index in (4, 0, 2):
        again = other.draw_field("val", index)
        assert all(np.array_equal(a, b) for a, b in zip(again, wanted[index], strict=True))
    assert not np.array_equal(SceneMaker(96, 4).draw_field("val", 0).image, wanted[0].image)
    assert not np.array_equal(SceneMaker(96, 3).draw("val", 0).image, wanted[0].image)


def test_pictures_of_one_digit_are_what_they_were():
    """Figures in the docs were measured on these bytes; the drawing's arithmetic may differ in its last bits."""
    sums = [int(SceneMaker(64).draw(split, 3).image.sum(dtype=np.int64)) for split in SPLITS]
    assert np.allclose(sums, [566775, 848424, 900829], rtol=1e-4)


def test_datasets_of_fields_know_boxes_labels_and_masks():
    pictures = ClutterData("detection", train=1, val=7, test=1).dataset("val")
    field = SceneMaker(96).draw_field("val", 5)
    assert np.array_equal(pictures.picture(5), field.image)
    assert np.array_equal(pictures.boxes(5), field.boxes)
    assert np.array_equal(pictures.labels_of(5), field.labels)
    assert np.array_equal(pictures.masks(5), field.masks)
    assert len(set(pictures.names)) == len(pictures) == 7


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
        ({"image_size": 64, "task": "detection"}, ["image_size", "96 for detection", "64"]),
        ({"task": "segmentation"}, ["task", "'segmentation'", "classification, detection"]),
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
