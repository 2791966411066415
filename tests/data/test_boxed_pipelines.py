"""Boxes move with their pictures, exactly; what is left of them keeps its place; empty pictures stay well-formed."""

import numpy as np
import pytest

from visattn.data.scenes import SceneMaker
from visattn.data.transforms import Pipeline, default_boxed
from visattn.types import UsageError

MAKER = SceneMaker(128)
FIELDS = [field for field in (MAKER.draw_field("train", index) for index in range(12)) if len(field.labels)]
NONE = np.empty((0, 4), np.float32)
GEOMETRY = {
    "nothing": [],
    "colour": [{"ColorJitter": {"p": 1}}],
    "mirror": [{"HorizontalFlip": {"p": 1}}],
    "upside down": [{"VerticalFlip": {"p": 1}}],
    "transposed": [{"Transpose": {"p": 1}}],
    "turned": [{"RandomRotate90": {"p": 1}}],
    "larger": [{"Resize": {"height": 256, "width": 192}}],
    "padded": [{"PadIfNeeded": {"min_height": 200, "min_width": 180}}],
    "default": [*default_boxed(flip=True)[:2]],
    "moved": [{"Affine": {"scale": [0.7, 0.9], "translate_percent": [-0.05, 0.05], "keep_ratio": True, "p": 1}}],
}


def bounds(plane):
    rows, columns = np.nonzero(plane > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("name", GEOMETRY)
def test_boxes_stay_tight_around_what_they_mark(name):
    """Masks go through the same transform as pictures: their bounds are what the boxes must be."""
    pipeline = Pipeline(GEOMETRY[name], None)
    exact = name in ("nothing", "colour", "mirror", "upside down", "transposed", "turned", "padded")
    seen = 0
    for index, field in enumerate(FIELDS):
        _, boxes, places = pipeline.boxed(field.image, field.boxes, 3, index)
        for box, place in zip(boxes, places, strict=True):
            mask = np.repeat(255 * field.masks[place].astype(np.uint8)[..., None], 3, 2)
            moved = mask if name == "colour" else pipeline.boxed(mask, NONE, 3, index)[0]
            height, width = moved.shape[:2]
            wanted = bounds(moved[..., 0])
            if any(edge in (0, limit) for edge, limit in zip(wanted, [width, height] * 2, strict=True)):
                continue  # cut at the edge: the box is that of the cut box, not of the cut digit
            assert np.abs(box - wanted).max() <= (1e-3 if exact else 1.6), (box, wanted)
            seen += 1
    assert seen >= 10


@pytest.mark.parametrize("seed", range(6))
def test_crops_cut_boxes_as_they_cut_rectangles(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 80, (8, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.integers(8, 40, (8, 2))], 1).astype(np.float32)
    pipeline = Pipeline([{"RandomCrop": {"height": 70, "width": 60, "p": 1}}], None)
    _, left, places = pipeline.boxed(np.zeros((120, 120, 3), np.uint8), boxes, seed)
    for n, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        picture = np.zeros((120, 120, 3), np.uint8)
        picture[y1:y2, x1:x2] = 255
        shown = pipeline.boxed(picture, NONE, seed)[0][..., 0]
        share = (shown > 0).sum() / ((x2 - x1) * (y2 - y1))
        if share < 0.25:
            assert n not in places
        else:
            assert np.abs(left[places.tolist().index(n)] - bounds(shown)).max() < 1e-3


@pytest.mark.parametrize(
    "specs", [*GEOMETRY.values(), [{"RandomCrop": {"height": 9, "width": 9}}], default_boxed(flip=True)]
)
def test_empty_pictures_keep_their_shapes(specs):
    pipeline = Pipeline(specs, None)
    for image in (FIELDS[0].image, np.zeros((33, 47, 3), np.uint8)):
        for given in (NONE, np.array([[2, 3, 4, 5]], np.float32)):  # the second is cropped away now and then
            for seed in range(5):
                out, boxes, places = pipeline.boxed(image, given, seed)
                assert (out.dtype, out.ndim) == (np.uint8, 3)
                assert (boxes.dtype, boxes.shape) == (np.float32, (len(places), 4))
                assert (places.dtype, places.ndim) == (np.int64, 1)
                assert len(places) <= len(given)


def test_boxes_depend_on_the_seed_alone():
    one, other = (Pipeline(default_boxed(flip=True), None) for _ in range(2))
    field = FIELDS[0]
    wanted = [one.boxed(field.image, field.boxes, 3, 0, index) for index in range(6)]
    for index in (4, 0, 5, 2):
        for found, expected in zip(other.boxed(field.image, field.boxes, 3, 0, index), wanted[index], strict=True):
            assert np.array_equal(found, expected)
    assert len({boxes.tobytes() for _, boxes, _ in wanted}) > 3


def test_sizes_stay_without_a_square():
    assert Pipeline([], None)(np.zeros((20, 50, 3), np.uint8)).shape == (20, 50, 3)
    out, boxes, _ = Pipeline([{"LongestMaxSize": {"max_size": 25}}], None).boxed(
        np.zeros((20, 50, 3), np.uint8), np.array([[10, 10, 20, 20]], np.float32)
    )
    assert out.shape == (10, 25, 3)
    assert np.abs(boxes - [[5, 5, 10, 10]]).max() < 1e-3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"HorizontalFlop": {}}, ["did you mean 'HorizontalFlip'"]),
        ({"Resize": {}}, ["Resize", "height"]),
        ({"RandomCrop": {"height": 5000, "width": 5000}}, ["RandomCrop", "fail"]),
        ({"Normalize": {}}, ["Normalize", "device"]),
    ],
)
def test_mistakes_are_named_in_one_line(spec, words):
    with pytest.raises(UsageError) as caught:
        Pipeline([spec], None)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
