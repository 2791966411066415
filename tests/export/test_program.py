"""A torch.export archive: the model's outputs for any batch, its maps by name, checked before it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from visattn.export import export_program
from visattn.export.program import read_facts
from visattn.insertion.attend import attend
from visattn.maps.capture import capture
from visattn.types import UsageError

SIZE = 16


def attended() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    attend(model, {"re:^1$": "cbam", "pool": "additive"})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def test_logits_and_maps_are_the_models_at_any_batch(tmp_path: Path) -> None:
    model, path = attended().train(), tmp_path / "new" / "a.pt2"
    assert 0 <= export_program(model, path, SIZE, metadata={"class_names": '["a é"]'}, with_maps=True) < 1e-5
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert [file.name for file in path.parent.iterdir()] == ["a.pt2"]
    facts = read_facts(path)
    assert (facts["class_names"], facts["image_size"]) == ('["a é"]', str(SIZE))
    assert list(json.loads(facts["maps"])) == json.loads(facts["outputs"])[1:]
    program = torch.export.load(path).module()
    for n in (1, 2, 7):
        images = torch.randn(n, 3, SIZE, SIZE)
        with capture(model.eval()) as maps, torch.no_grad():
            wanted: dict[str, Tensor] = {"logits": model(images), **maps}
        outputs = dict(zip(json.loads(facts["outputs"]), program(images), strict=True))
        assert list(outputs) == ["logits", "1/cbam.channel", "1/cbam.spatial", *list(maps)[2:]]
        for key, value in wanted.items():
            torch.testing.assert_close(outputs[key], value, rtol=1e-4, atol=1e-5)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Noisy(nn.Module):
    """Another answer each time: no file can agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean((2, 3)) + self.calls


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (Branching, "a.pt2", "cannot export this Branching"),
        (Noisy, "a.pt2", "was not written: the archive differs from torch"),
        (attended, "a.onnx", r"ends in \.pt2, got .*a\.onnx"),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), "a.pt2", "this one has none"),
    ],
    ids=["branches", "noisy", "suffix", "no maps"],
)
def test_what_cannot_be_written_is_told_in_one_line_and_leaves_nothing(build, name, message, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        export_program(build(), tmp_path / name, SIZE, metadata={}, with_maps="none" in message)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
