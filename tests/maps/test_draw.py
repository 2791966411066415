import numpy as np
import pytest
import torch
from torch import nn

from visattn.attention import block
from visattn.maps.capture import capture
from visattn.maps.draw import draw
from visattn.maps.render import overlay, strip
from visattn.types import UsageError


@pytest.fixture
def recorded():
    torch.manual_seed(0)
    model, images = block("cbam", 3).eval(), torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    nn.init.ones_(model.norm.weight)
    model.start_as_identity()
    nn.init.constant_(model.strength, 0.5)
    with capture(model) as maps:
        model(images / 255)
    return maps, images


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_effective_factors_are_drawn_on_the_scale_of_the_map(recorded):
    maps, images = recorded
    drawn = draw(maps, images, captions=["a", "b"], size=100)
    assert list(drawn) == ["channel", "spatial"]
    for i, caption in enumerate(["a\nstrength 0.50", "b\nstrength 0.50"]):
        factor = 1 + 0.5 * (maps["spatial"][i, 0] - 1)
        assert same(
            drawn["spatial"][i], overlay(images[i].movedim(0, -1), factor, low=0, high=1, size=100, caption=caption)
        )
        gate = 1 + 0.5 * (maps["channel"][i].flatten() - 1)
        assert same(drawn["channel"][i], strip(gate, low=0, high=1, size=100, caption=caption))


def test_some_maps_alone(recorded):
    maps, images = recorded
    assert list(draw(maps, images, keys=["spatial"])) == ["spatial"]
    with pytest.raises(UsageError, match="unknown map 'spatail'; did you mean 'spatial'"):
        draw(maps, images, keys=["spatail"])


def test_pictures_that_were_not_recorded(recorded):
    maps, images = recorded
    with pytest.raises(UsageError, match="was recorded of 2 pictures, 1 are to be drawn"):
        draw(maps, images[:1])
