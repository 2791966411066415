"""Every block leaves as ONNX, with each of its maps as a named output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from visattn.attention import block_class, blocks
from visattn.attention._contract import AbstractPool
from visattn.export import export_onnx
from visattn.insertion.attend import attend
from visattn.maps.capture import capture

pytestmark = pytest.mark.slow

SIZE = 24


def attended(name: str) -> nn.Module:
    """Return a small host with the block, every parameter and statistic away from its start."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    attend(model, name, at="pool" if issubclass(block_class(name), AbstractPool) else "re:^1$")
    with torch.no_grad():
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.3 * torch.randn(value.shape))
    return model


@pytest.mark.parametrize("name", blocks())
def test_onnx_equals_torch_with_every_map(name: str, tmp_path: Path) -> None:
    import onnxruntime

    model, path = attended(name), tmp_path / "a.onnx"
    images = torch.randn(3, 3, SIZE, SIZE)
    with capture(model.eval()) as maps, torch.no_grad():
        logits = model(images)
        wanted: dict[str, Tensor] = {"logits": logits, **maps}
    assert export_onnx(model, path, SIZE, metadata={}, with_maps=len(wanted) > 1, check=images) < 1e-5
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    assert names == list(wanted)
    for key, value in zip(names, session.run(None, {"images": images.numpy()}), strict=True):
        scale = max(1.0, wanted[key].abs().max().item())
        assert (torch.from_numpy(value) - wanted[key]).abs().max().item() < 1e-5 * scale
