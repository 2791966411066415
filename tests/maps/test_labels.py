"""Boxes of a data set are drawn where they are, in the colour of their class; the legend names each class."""

import numpy as np
import pytest

from visattn.maps.labels import COLORS, labelled, legend

FRAME = 8  # pixels of paper around a picture


def close(image, color):
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(np.asarray(image).astype(int) - rgb).sum(axis=2) < 12


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_boxes_lie_where_they_are(scale):
    image = np.zeros((60, 80, 3), np.uint8)
    boxes = np.array([[10, 30, 40, 50], [60, 25, 80, 60]])
    drawn = labelled(image, boxes, [2, 1], [False, False], size=80 * scale)
    for (x1, y1, x2, y2), label in zip(boxes * scale, (2, 1), strict=True):
        rows, columns = np.nonzero(close(drawn, COLORS[label])[FRAME : FRAME + 60 * scale, FRAME : FRAME + 80 * scale])
        inside = rows >= y1  # the number's ground lies above
        found = (columns[inside].min(), rows[inside].min(), columns[inside].max(), rows[inside].max())
        assert np.abs(np.array(found) - (x1, y1, x2, y2)).max() <= 1


def test_crowds_are_thinner():
    image, box = np.zeros((60, 80, 3), np.uint8), np.array([[10, 30, 60, 50]])
    thick, thin = (close(labelled(image, box, [0], [crowd], size=160), COLORS[0]).sum() for crowd in (False, True))
    assert thick > 1.4 * thin


def test_the_legend_has_each_class_and_breaks_lines():
    names = [f"class number {n}" for n in range(7)]
    one, many = legend(names[:1], 300), legend(names, 300)
    assert many.width == 300
    assert many.height > 3 * one.height / 2
    assert all(close(many, color).sum() > 50 for color in COLORS)
