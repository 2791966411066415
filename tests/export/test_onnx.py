import importlib.util
import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import visattn.export
from visattn.attention import block
from visattn.attention._contract import MapTap
from visattn.export.onnx import export_onnx
from visattn.insertion.attend import attend
from visattn.types import UsageError

SIZE = 16
KEYS = ["1/cbam.channel", "1/cbam.spatial"]


def host() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def attended(init: str = "identity") -> nn.Sequential:
    torch.manual_seed(0)
    model = host()
    attend(model, "cbam", at="re:^1$", init=init)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)  # the identity start, or one half everywhere, would show nothing
    return model


def run(path: Path, images: Tensor) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {"images": images.numpy()})), strict=True))


def stored(path: Path) -> dict[str, str]:
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path, float]:
    model, path = attended().train(), tmp_path_factory.mktemp("onnx") / "new" / "a.onnx"
    metadata = {"class_names": json.dumps(["a", "b é"]), "mean": "[0.5, 0.5, 0.5]"}
    return model, path, export_onnx(model, path, SIZE, metadata=metadata, with_maps=True)


def test_logits_and_maps_are_the_models_at_any_batch(exported):
    model, path, difference = exported
    found: dict[str, Tensor] = {}
    twin = attended().eval()
    twin.load_state_dict(model.state_dict())
    for name, module in twin.named_modules():
        if isinstance(module, MapTap):
            key = f"1/cbam.{name.rpartition('.')[2]}"
            module.register_forward_hook(lambda _m, _i, output, key=key: found.update({key: output}))
    assert 0 <= difference < 1e-5
    for n in (1, 2, 7):
        images = torch.randn(n, 3, SIZE, SIZE)
        outputs = run(path, images)
        with torch.no_grad():
            logits = twin(images)
        assert list(outputs) == ["logits", *KEYS]
        torch.testing.assert_close(outputs["logits"], logits, rtol=1e-4, atol=1e-5)
        for key in KEYS:
            torch.testing.assert_close(outputs[key], found[key], rtol=1e-4, atol=1e-5)
    assert outputs[KEYS[1]].std() > 0


def test_the_file_tells_what_a_reader_needs(exported):
    model, path, _ = exported
    texts = stored(path)
    assert json.loads(texts["class_names"]) == ["a", "b é"]
    assert (texts["mean"], texts["image_size"]) == ("[0.5, 0.5, 0.5]", str(SIZE))
    maps = json.loads(texts["maps"])
    assert list(maps) == KEYS
    assert maps[KEYS[1]] == {
        "kind": "spatial",
        "lower": 0.0,
        "upper": 1.0,
        "softmax": False,
        "strength": pytest.approx(model[1].attention["cbam"].strength.item()),
    }


def test_the_model_stays_as_it_was_and_nothing_but_the_file_is_left(exported):
    model, path, _ = exported
    assert all(module.training for module in model.modules())
    assert hooks(model) == 0
    assert [file.name for file in path.parent.iterdir()] == ["a.onnx"]


def test_without_maps_the_logits_are_the_only_output(tmp_path):
    model = attended("paper")
    images = torch.randn(4, 3, SIZE, SIZE)
    assert export_onnx(model, tmp_path / "a.onnx", SIZE, metadata={}, check=images) < 1e-5
    assert list(run(tmp_path / "a.onnx", images)) == ["logits"]
    assert stored(tmp_path / "a.onnx") == {"image_size": str(SIZE)}


def test_a_bare_block_names_its_maps_by_path(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), block("eca", 8))
    export_onnx(model, tmp_path / "a.onnx", SIZE, metadata={}, with_maps=True)
    (name,) = set(run(tmp_path / "a.onnx", torch.zeros(1, 3, SIZE, SIZE))) - {"logits"}
    assert name.startswith("1.")


class Noisy(nn.Module):
    """Another answer each time: no file can agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean((2, 3)) * self.scale + self.calls


def test_a_file_that_disagrees_is_not_kept_and_the_old_one_stays(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"a\.onnx was not written: onnxruntime differs from torch by \d.*limit 1e-04"):
        export_onnx(Noisy(), path, SIZE, metadata={})
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x


def shared() -> nn.Module:
    one = block("se", 8)
    return nn.Sequential(nn.Conv2d(3, 8, 1), one, nn.ReLU(), one)


BAD = {
    "branches": (Branching, {}, "cannot export this Branching"),
    "tuple": (Pair, {}, "one tensor, got tuple"),
    "no maps": (host, {"with_maps": True}, "this one has none"),
    "twice": (shared, {"with_maps": True}, "is made 2 times"),
    "suffix": (host, {"path": "a.pb"}, r"ends in \.onnx, got .*a\.pb"),
    "images": (host, {"check": torch.zeros(1, 3, SIZE, SIZE + 1)}, r"check must be \(N, 3, 16, 16\), got"),
    "no images": (host, {"check": torch.zeros(0, 3, SIZE, SIZE)}, "check must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_exported_is_told_in_one_line_and_leaves_nothing(tmp_path, name):
    build, changes, message = BAD[name]
    model, keywords = build(), dict(changes)
    path = tmp_path / keywords.pop("path", "a.onnx")
    with pytest.raises(UsageError, match=message) as caught:
        export_onnx(model, path, SIZE, metadata={}, **keywords)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert hooks(model) == 0
    assert model.training


def test_missing_packages_are_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "visattn.export.packages.find_spec", lambda name: None if name.startswith("onnxr") else find(name)
    )
    with pytest.raises(UsageError, match=r"needs onnxruntime: pip install 'visattn\[export\]'"):
        export_onnx(host(), tmp_path / "a.onnx", SIZE, metadata={})


def test_the_package_offers_the_function():
    assert visattn.export.export_onnx is export_onnx
    with pytest.raises(AttributeError, match="nothing"):
        _ = visattn.export.nothing
