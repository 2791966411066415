"""A trained network's own squeeze-and-excitation, batch norms and all, in ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from visattn.attention.se import SE
from visattn.weights import read_state_dict

FOLDER = Path(__file__).parents[3] / "shared" / "weights" / "minifasnet_v1se"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no ../shared/weights")
SITES = ["conv_3.model.3.se_module", "conv_4.model.5.se_module", "conv_5.model.1.se_module"]


@pytest.mark.parametrize("site", SITES)
def test_minifasnet_gates(site: str) -> None:
    (file,) = FOLDER.glob("*.pth")
    whole = {key.removeprefix("module."): value for key, value in read_state_dict(file).items()}
    state = {key.removeprefix(f"{site}."): value for key, value in whole.items() if key.startswith(f"{site}.")}
    assert state
    module = SE.from_reference(state).eval()
    layers = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(module.channels, module.squeeze.out_channels, 1, bias=False),
        nn.BatchNorm2d(module.squeeze.out_channels),
        nn.ReLU(),
        nn.Conv2d(module.squeeze.out_channels, module.channels, 1, bias=False),
        nn.BatchNorm2d(module.channels),
        nn.Sigmoid(),
    ).eval()
    names = {"fc1": "1", "bn1": "2", "fc2": "4", "bn2": "5"}
    layers.load_state_dict({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items()})
    x = torch.rand(2, module.channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(module(x), x * layers(x), rtol=1e-5, atol=1e-5)
