"""Maps of a padded batch: where an object is drawn must be where it is in its picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from visattn.heads.resize import Resize
from visattn.maps import to_pictures
from visattn.types import Frames, UsageError

STRIDE = 16
# height, width and the object's middle (y, x) of three pictures of one batch: upright, wide, small
PICTURES = [((640, 360), (500, 260)), ((300, 640), (230, 500)), ((220, 200), (150, 60))]


def batch() -> tuple[Tensor, Frames]:
    """Return gates at stride 16 of a padded batch, each hot at its picture's object, and where the pictures lie."""
    images = []
    for (height, width), (y, x) in PICTURES:
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        spread = 0.06 * max(height, width)
        spot = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2))
        images.append(spot.expand(3, -1, -1))
    resize = Resize.like(GeneralizedRCNNTransform(320, 640, [0.0] * 3, [1.0] * 3))
    padded = resize.eval()(images)[0].tensors[:, :1]
    assert resize.frames is not None
    return F.avg_pool2d(padded, STRIDE)[:, 0], resize.frames


def off(found: Tensor, middle: tuple[int, int]) -> float:
    """Return how far the middle of the hot spot lies from the object, in the picture's pixels.

    The hottest pixel would not do: bilinear maps have it in the middle of a cell, up to 11 pixels away.
    """
    spot = found.clamp(min=found.max() / 2) - found.max() / 2
    y = (spot.sum(1) * (torch.arange(len(spot)) + 0.5)).sum() / spot.sum()
    x = (spot.sum(0) * (torch.arange(spot.shape[1]) + 0.5)).sum() / spot.sum()
    return float(((y - middle[0]) ** 2 + (x - middle[1]) ** 2) ** 0.5)


def test_objects_are_drawn_where_they_are() -> None:
    planes, frames = batch()
    drawn = to_pictures(planes, frames)
    assert [tuple(one.shape) for one in drawn] == [size for size, _ in PICTURES]
    errors = [off(one, middle) for one, (_, middle) in zip(drawn, PICTURES, strict=True)]
    assert max(errors) < 4, errors


def test_the_naive_way_is_far_off() -> None:
    planes, _ = batch()
    naive = [
        F.interpolate(plane[None, None], size=size, mode="bilinear")[0, 0]
        for plane, (size, _) in zip(planes, PICTURES, strict=True)
    ]
    errors = [off(one, middle) for one, (_, middle) in zip(naive, PICTURES, strict=True)]
    assert max(errors) > 90, errors


def test_a_whole_batch_without_padding_is_plain_interpolation() -> None:
    planes = torch.rand(2, 5, 7)
    frames = Frames((80, 112), [(80, 112)] * 2, [(160, 224)] * 2)
    expected = F.interpolate(planes[:, None], size=(160, 224), mode="bilinear")[:, 0]
    torch.testing.assert_close(torch.stack(to_pictures(planes, frames)), expected)


def test_padding_never_shows() -> None:
    planes = torch.zeros(1, 6, 8)
    planes[:, 3:], planes[:, :, 4:] = 9, 9
    frames = Frames((96, 128), [(40, 56)], [(80, 112)])
    assert to_pictures(planes, frames)[0].max() == 0


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 3, 5, 7), (5, 7)])
def test_refusals(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"valid: \(1, h, w\)"):
        to_pictures(torch.zeros(shape), Frames((80, 112), [(80, 112)], [(160, 224)]))
