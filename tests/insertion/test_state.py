"""Files of what was inserted: only that, small, bit for bit, refused whole where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from life import IMAGES, ROWS, Row
from safetensors import safe_open
from torch import nn

import visattn
from visattn.insertion.state import head_of
from visattn.weights import digest, save_state_dict

HEADS = {"test_resnet": "fc", "test_efficientnet": "classifier", "torchvision:resnet18": "fc", "plain": "head"}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_file_puts_the_blocks_onto_a_fresh_host_bit_for_bit(row: Row, tmp_path: Path) -> None:
    model, fresh, path = row.attended(), row.bare(), tmp_path / "a.safetensors"
    visattn.save_attention(model, path)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == model.state_dict().keys() - fresh.state_dict().keys()
        assert file.metadata() == {"visattn": "attention"}
    torch.manual_seed(9)
    visattn.attend(fresh, row.block, at="pool" if row.block == "additive" else "stages")
    assert not torch.equal(fresh(IMAGES), model(IMAGES))
    visattn.load_attention(fresh, path)
    assert torch.equal(fresh(IMAGES), model(IMAGES))
    assert digest(fresh.state_dict()) == digest(model.state_dict())


@pytest.mark.parametrize(("block", "most"), [("eca", 0.01), ("cbam", 0.12)])
def test_files_are_a_small_part_of_resnet50(block: str, most: float, tmp_path: Path) -> None:
    host = timm.create_model("resnet50")
    save_state_dict(host.state_dict(), tmp_path / "host.safetensors")
    visattn.attend(host, block)
    visattn.save_attention(host, tmp_path / "a.safetensors")
    share = (tmp_path / "a.safetensors").stat().st_size / (tmp_path / "host.safetensors").stat().st_size
    assert 0 < share < most


@pytest.mark.parametrize("host", HEADS)
def test_after_freeze_host_the_head_travels_along(host: str, tmp_path: Path) -> None:
    row, head, path = Row(host, "cbam"), HEADS[host], tmp_path / "a.safetensors"
    model, fresh, other = row.attended(), row.attended(), row.attended()
    visattn.freeze_host(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1)
    model.eval()
    visattn.save_attention(model, path)
    with safe_open(path, "pt") as file:
        added = model.state_dict().keys() - row.bare().state_dict().keys()
        assert set(file.keys()) == added | {f"{head}.weight", f"{head}.bias"}
    visattn.load_attention(fresh, path)
    assert torch.equal(fresh(IMAGES), model(IMAGES))
    visattn.load_attention(other, path, head=False)
    assert torch.equal(other.get_submodule(head).weight, row.bare().get_submodule(head).weight)
    visattn.save_attention(model, path, head=False)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == added


def test_a_head_alone_is_the_file_of_a_frozen_baseline(tmp_path: Path) -> None:
    model = Row("plain", "cbam").bare()
    visattn.freeze_host(model)
    visattn.save_attention(model, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == {"head.weight", "head.bias"}


def test_a_host_frozen_in_part_stays_out_of_the_file(tmp_path: Path) -> None:
    model = Row("plain", "cbam").attended()
    model.stem.requires_grad_(False)
    visattn.save_attention(model, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == set(visattn.attention_state_dict(model))


def test_a_file_of_a_wrapped_model_fits_the_model_itself(tmp_path: Path) -> None:
    model, fresh = Row("plain", "cbam").attended(), Row("plain", "cbam").attended()
    with torch.no_grad():
        model.norm.attention["cbam"].strength.fill_(3.0)
    visattn.save_attention(nn.ModuleDict({"network": model}), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == {f"network.{key}" for key in visattn.attention_state_dict(model)}
    visattn.load_attention(fresh, tmp_path / "a.safetensors")
    assert torch.equal(fresh(IMAGES), model(IMAGES))


def other_classes() -> nn.Module:
    model = Row("plain", "cbam").attended()
    model.head = nn.Linear(16, 7)
    return model


def one_block_more() -> nn.Module:
    model = Row("plain", "cbam").attended()
    visattn.attend(model, "se", at="body", add=True)
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (other_classes, r"head\.weight is \(5, 16\), not \(7, 16\).*head=False leaves the model's head as it is"),
        (one_block_more, "body.attention.se.excite.bias is missing in the file.*in all"),
        (Row("plain", "cbam").bare, "does not fit: body.attention.cbam.*is not in the model"),
    ],
    ids=["classes", "block", "bare"],
)
def test_a_file_that_does_not_fit_changes_nothing(build, message: str, tmp_path: Path) -> None:
    saved = Row("plain", "cbam").attended()
    visattn.save_attention(saved, tmp_path / "a.safetensors", head=True)
    model = build()
    before = digest(model.state_dict())
    with pytest.raises(visattn.UsageError, match=message) as refusal:
        visattn.load_attention(model, tmp_path / "a.safetensors")
    assert "\n" not in str(refusal.value)
    assert digest(model.state_dict()) == before


def test_nothing_to_save_is_said(tmp_path: Path) -> None:
    with pytest.raises(visattn.UsageError, match="no inserted attention to save"):
        visattn.save_attention(Row("plain", "cbam").bare(), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "head"),
    [
        ("resnet18", "fc"),
        ("convnext_atto", "head.fc"),
        ("mobilenetv3_small_050", "classifier"),
        ("vgg11_bn", "head.fc"),
        ("torchvision:mobilenet_v2", "classifier.1"),
        ("torchvision:squeezenet1_1", "classifier.1"),
    ],
)
def test_the_head_is_found(host: str, head: str) -> None:
    model = visattn.create_model(host, num_classes=3)
    found = head_of(model)
    assert found is not None
    assert found[0] == head
    assert found[1] is model.get_submodule(head)


def test_a_head_that_is_not_there_is_named() -> None:
    with pytest.raises(visattn.UsageError, match=r"no head is found in Sequential; valid: head=False, or the name"):
        head_of(nn.Sequential(nn.Conv2d(3, 8, 3)))
    with pytest.raises(visattn.UsageError, match="head of Plain 'haed'; did you mean 'head'"):
        head_of(Row("plain", "cbam").bare(), "haed")


def test_a_whole_checkpoint_is_no_attention_file(tmp_path: Path) -> None:
    host = visattn.create_model("test_resnet", num_classes=3)
    save_state_dict(host.state_dict(), tmp_path / "host.safetensors")
    with pytest.raises(visattn.UsageError, match=r"load it with visattn\.load_weights"):
        visattn.load_attention(host, tmp_path / "host.safetensors")
