import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from visattn.insertion.attend import attend
from visattn.models.loading import load_weights
from visattn.types import UsageError
from visattn.weights import digest, sha256

SHARED = Path(__file__).parents[3] / "shared"
RESNET20 = SHARED / "weights/resnet20_cifar10/resnet20-12fca82f.th"
LOGITS = RESNET20.with_name("reference_logits.csv")
CIFAR = SHARED / "data/cifar10-jpeg/cifar10-jpeg.tar.gz"


class Basic(nn.Module):
    """He et al.'s block with the shortcut of option A: every second pixel, channels padded with zeros."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.pad = stride, (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad)))


class ResNet20(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Basic(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Basic(16, 32, 2), Basic(32, 32, 1), Basic(32, 32, 1))
        self.layer3 = nn.Sequential(Basic(32, 64, 2), Basic(64, 64, 1), Basic(64, 64, 1))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def small(classes: int = 4, *, width: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3),
        nn.BatchNorm2d(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def saved(tmp_path: Path, state: object) -> Path:
    torch.save(state, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def pictures() -> tuple[list[str], Tensor, Tensor]:
    rows = list(csv.reader(LOGITS.read_text().splitlines()))[1:]
    names, logits = [row[0] for row in rows], torch.tensor([[float(value) for value in row[1:]] for row in rows])
    wanted, found = set(names), {}
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name in wanted:
                data = archive.extractfile(member).read()
                found[name] = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
                if len(found) == len(wanted):
                    break
    images = torch.from_numpy(np.stack([found[name] for name in names])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return names, (images - mean) / std, logits


real = pytest.mark.skipif(not (RESNET20.exists() and CIFAR.exists()), reason=f"{SHARED} is not here")


@real
def test_a_foreign_checkpoint_gives_the_authors_logits_with_and_without_attention():
    torch.manual_seed(0)
    model = ResNet20().eval()
    report = load_weights(model, RESNET20, rename={"linear.": "fc."})
    # 19 convolutions, 19 batch norms of four tensors each, and a linear layer
    assert (len(report.matched), report.left_over, report.mismatched) == (19 + 19 * 4 + 2, [], [])
    assert all(name.endswith("num_batches_tracked") for name in report.missing)
    _, images, expected = pictures()
    with torch.no_grad():
        assert (model(images) - expected).abs().max() < 1e-3
        attended = ResNet20().eval()
        attend(attended, "cbam", at="layer*.*.bn2", example=images[:1])
        report = load_weights(attended, RESNET20, rename={"linear.": "fc."})
        assert (attended(images) - expected).abs().max() < 1e-3
    assert report.attention
    assert all(".attention.cbam." in name for name in report.attention)


@real
def test_the_file_is_the_one_described_and_a_missing_renaming_is_suggested():
    assert sha256(RESNET20) == "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"
    report = load_weights(ResNet20(), RESNET20)
    assert sorted(report.left_over) == ["linear.bias", "linear.weight"]
    assert {"fc.weight", "fc.bias"} <= set(report.missing)
    assert "rename={'linear.': 'fc.'}" in report.hint
    assert "rename={'linear.': 'fc.'}" in str(report)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "network.", "model.", "network._orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_values_arrive_through_any_wrapping(tmp_path, prefix, wrapper):
    source, target = small(), small()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    report = load_weights(target, saved(tmp_path, {wrapper: state} if wrapper else state))
    assert digest(target.state_dict()) == digest(source.state_dict())
    assert len(report.matched) == len(state)


def test_a_model_whose_own_names_carry_a_prefix_keeps_it(tmp_path):
    source, target = (nn.ModuleDict({"network": small()}) for _ in range(2))
    load_weights(target, saved(tmp_path, source.state_dict()))
    assert digest(target.state_dict()) == digest(source.state_dict())


def test_another_number_of_classes_is_reported_and_does_not_count(tmp_path):
    source, target = small(4), small(7)
    head = target[7].weight.clone()
    report = load_weights(target, saved(tmp_path, source.state_dict()), minimum=1)
    assert report.head == ["7.weight", "7.bias"]
    assert [(each.name, each.file, each.model) for each in report.mismatched][1] == ("7.bias", (4,), (7,))
    assert torch.equal(target[7].weight, head)
    assert torch.equal(target[0].weight, source[0].weight)
    assert "(4, 8) in the file, (7, 8) in the model" in str(report)


def test_another_width_is_no_other_head(tmp_path):
    before = digest((target := small(width=16)).state_dict())
    with pytest.raises(UsageError, match="of another shape") as caught:
        load_weights(target, saved(tmp_path, small().state_dict()))
    assert "\n" not in str(caught.value)
    assert digest(target.state_dict()) == before


def test_too_few_matches_change_nothing_unless_told(tmp_path):
    source, target = small(), small()
    state = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("0.")}
    path, before = saved(tmp_path, state), digest(target.state_dict())
    with pytest.raises(UsageError, match=r"matches 12 of the model's 14 tensors \(86%, the minimum is 95%\)"):
        load_weights(target, path)
    assert digest(target.state_dict()) == before
    report = load_weights(target, path, minimum=0)
    assert report.missing == ["0.weight", "0.bias"]
    assert torch.equal(target[3].weight, source[3].weight)


def test_a_file_that_shares_nothing_is_refused_by_any_minimum_but_zero(tmp_path):
    path = saved(tmp_path, {"x": torch.ones(1)})
    with pytest.raises(UsageError, match="matches 0"):
        load_weights(small(), path, minimum=0.001)
    assert load_weights(small(), path, minimum=0).left_over == ["x"]


def test_renaming_maps_prefixes_the_longest_first(tmp_path):
    source, target = small(), nn.ModuleDict({"body": small()})
    state = {f"old.{'head' if name[0] == '7' else name[0]}{name[1:]}": t for name, t in source.state_dict().items()}
    load_weights(target, saved(tmp_path, state), rename={"old.": "body.", "old.head.": "body.7."}, minimum=1)
    assert digest(target["body"].state_dict()) == digest(source.state_dict())


BAD_RENAMES = [
    ({"liner.": "fc."}, r"prefix to rename .* 'liner\.'; did you mean 'linear\.'\?"),
    ({"linear.": "fc.", "other.": "fc."}, r"one: 'fc\.weight'"),
]


@pytest.mark.parametrize(("rename", "message"), BAD_RENAMES)
def test_renamings_that_cannot_be_meant_are_refused(tmp_path, rename, message):
    path = saved(tmp_path, {"linear.weight": torch.zeros(2, 2), "other.weight": torch.zeros(2, 2)})
    with pytest.raises(UsageError, match=message):
        load_weights(nn.ModuleDict({"fc": nn.Linear(2, 2, bias=False)}), path, rename=rename)


@pytest.mark.parametrize("minimum", [-0.1, 1.1, float("nan")])
def test_the_minimum_is_a_share(tmp_path, minimum):
    with pytest.raises(UsageError, match="between 0 and 1"):
        load_weights(small(), saved(tmp_path, small().state_dict()), minimum=minimum)


def attended(block: str | dict) -> nn.Module:
    model = small()
    attend(model, block, at="re:^[14]$", example=torch.zeros(1, 3, 8, 8))
    return model


def test_attention_of_the_model_may_be_missing_and_is_loaded_when_there(tmp_path):
    target, host = attended("cbam"), small()
    path = saved(tmp_path, host.state_dict())
    report = load_weights(target, path, minimum=1)
    assert not report.missing
    assert all(name.startswith(("1.attention.cbam.", "4.attention.cbam.")) for name in report.attention)
    assert torch.equal(target.state_dict()["1.weight"], host.state_dict()["1.weight"])
    full = attended("cbam")
    nn.init.normal_(full.get_submodule("1").attention["cbam"].mlp[0].weight)
    report = load_weights(target, saved(tmp_path, full.state_dict()), minimum=1)
    assert not report.attention
    assert digest(target.state_dict()) == digest(full.state_dict())


def test_attention_of_another_shape_is_a_mismatch_and_neither_head_nor_host(tmp_path):
    path = saved(tmp_path, attended({"block": "se", "reduction": 1}).state_dict())
    report = load_weights(attended({"block": "se", "reduction": 4}), path, minimum=1)
    assert report.mismatched
    assert not report.head


def test_a_hosts_own_child_called_attention_counts_as_the_host(tmp_path):
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "attention": nn.ModuleDict({"se": nn.Linear(2, 2)})})
    with pytest.raises(UsageError, match=r"missing: attention\.se\.weight"):
        load_weights(model, saved(tmp_path, {f"stem.{k}": v for k, v in nn.Linear(2, 2).state_dict().items()}))


def test_a_model_that_is_all_head_still_needs_a_match(tmp_path):
    with pytest.raises(UsageError, match="matches 0 of the model's 0 tensors"):
        load_weights(nn.Linear(2, 3), saved(tmp_path, nn.Linear(2, 5).state_dict()))
