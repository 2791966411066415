import os
import pickle
import stat
import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from visattn import weights
from visattn.types import UsageError
from visattn.weights import digest, read_state_dict, save_state_dict, sha256, strip_prefixes

TENSORS = {
    "float": torch.randn(2, 3),
    "bf16": torch.randn(4).bfloat16(),
    "half": torch.randn(4).half(),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "turned": torch.randn(2, 3).t(),
    "last": torch.randn(1, 2, 3, 3).to(memory_format=torch.channels_last),
}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("suffix", [".safetensors", ".SAFETENSORS", *weights.PICKLED])
def test_every_kind_of_file_gives_back_what_was_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix.lower() == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, path)
    else:
        torch.save(TENSORS, path)
    assert same(read_state_dict(path), TENSORS)


def test_the_legacy_format_is_read(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "a.th", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "a.th")["w"].sum() == 3


@pytest.mark.parametrize("key", weights.WRAPPERS)
def test_wrapped_dicts_are_opened(tmp_path, key):
    torch.save({"epoch": 3, key: {"w": torch.ones(2)}, "optimizer": {"state": {}}}, tmp_path / "a.pt")
    assert list(read_state_dict(tmp_path / "a.pt")) == ["w"]


def test_wrappers_may_be_nested_and_values_that_are_no_tensors_are_left(tmp_path):
    torch.save({"model": {"state_dict": {"w": torch.ones(2), "version": 1}}}, tmp_path / "a.pt")
    assert list(read_state_dict(tmp_path / "a.pt")) == ["w"]


def test_a_dict_that_holds_itself_ends(tmp_path):
    loop: dict = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no tensors"):
        read_state_dict(tmp_path / "a.pt")


STRIPPED = [
    (["module.a.w", "module.b.w"], ["a.w", "b.w"]),
    (["_orig_mod.a.w", "_orig_mod.b.w"], ["a.w", "b.w"]),
    (["network.module._orig_mod.a", "network.module._orig_mod.b"], ["a", "b"]),
    (["model.a", "model.b"], ["a", "b"]),
    ([f"network.{i}" for i in range(20)] + ["loss.weight"], [str(i) for i in range(20)] + ["loss.weight"]),
    (["model.a", "head.w"], ["model.a", "head.w"]),  # one half: the names of a model, not a tool's prefix
    ([f"module.{i}" for i in range(20)] + ["3"], [f"module.{i}" for i in range(20)] + ["3"]),  # 3 would be there twice
    (["modulea.w"], ["modulea.w"]),
    ([], []),
]


@pytest.mark.parametrize(("names", "expected"), STRIPPED)
def test_prefixes_common_to_nearly_all_names_are_taken_off(names, expected):
    numbers = {name: torch.tensor(i) for i, name in enumerate(names)}
    stripped = strip_prefixes(numbers)
    assert list(stripped) == expected
    assert [int(value) for value in stripped.values()] == list(range(len(names)))


def test_prefixes_stay_when_asked(tmp_path):
    torch.save({"module.w": torch.ones(1)}, tmp_path / "a.pt")
    assert list(read_state_dict(tmp_path / "a.pt", strip=False)) == ["module.w"]


class Canary:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain2", "plain5"])
@pytest.mark.parametrize("suffix", weights.PICKLED)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, form, suffix):
    path, canary = tmp_path / f"a{suffix}", tmp_path / "ran"
    payload = {"state_dict": {"w": torch.ones(2)}, "extra": Canary(canary)}
    if form in {"zip", "legacy"}:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps(Canary(canary), protocol=int(form[-1])))
    with pytest.raises(UsageError, match=path.name) as caught:
        read_state_dict(path)
    assert not canary.exists()
    assert "\n" not in str(caught.value)
    if form != "plain5":  # torch stops at the pickle's version, before any name
        assert "mkdir" in str(caught.value)


def test_the_canary_would_run_if_it_were_loaded(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_blocked_class_is_named(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": Namespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"argparse\.Namespace"):
        read_state_dict(tmp_path / "a.pt")


def test_a_whole_model_and_torchscript_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_state_dict(tmp_path / "a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated it; its files are still about
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "b.pt")
    with pytest.raises(UsageError, match="TorchScript"):
        read_state_dict(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused_in_one_line(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"w": torch.randn(3000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UsageError, match=path.name) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


BAD = {
    "text.pt": (b"<html>404</html>", "damaged"),
    "text.safetensors": (b"<html>404</html>", "damaged"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
    "keras.h5": (b"x", r"valid: \.safetensors"),
    "none": (b"x", r"valid: \.safetensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_something_else_are_refused_in_one_line(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_state_dict(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_contents_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no\.pt: No such file"):
        read_state_dict(tmp_path / "no.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UsageError, match=r"folder\.pt: Is a directory"):
        read_state_dict(tmp_path / "folder.pt")
    torch.save({"epoch": 3, "note": "x"}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no tensors; its keys: epoch, note"):
        read_state_dict(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(UsageError, match="holds a list"):
        read_state_dict(tmp_path / "b.pt")


def test_saving_keeps_values_types_and_metadata(tmp_path):
    path = tmp_path / "new" / "a.safetensors"
    shared = torch.randn(4)
    save_state_dict(
        {**TENSORS, "tied": shared, "view": shared[1:], "grad": torch.nn.Parameter(shared)}, path, {"k": "v"}
    )
    read = read_state_dict(path)
    assert same({name: read[name] for name in TENSORS}, TENSORS)
    assert torch.equal(read["tied"][1:], read["view"])
    assert torch.equal(read["grad"], shared)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"k": "v"}


def test_saved_files_can_be_read_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        save_state_dict({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_state_dict({"a": torch.zeros(1)}, path)
    before = sha256(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        save_state_dict({"a": torch.ones(1)}, path)
    assert sha256(path) == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_only_safetensors_are_written(tmp_path):
    with pytest.raises(UsageError, match=r"valid: \.safetensors"):
        save_state_dict({"a": torch.zeros(1)}, tmp_path / "a.pt")


def test_the_digest_sees_content_and_not_order_or_layout():
    reference = digest(TENSORS)
    assert digest(dict(reversed(TENSORS.items()))) == reference
    assert digest({name: tensor.clone().contiguous() for name, tensor in TENSORS.items()}) == reference
    changed = {
        "value": {**TENSORS, "float": TENSORS["float"] + 1e-3},
        "type": {**TENSORS, "half": TENSORS["half"].view(torch.int16)},
        "shape": {**TENSORS, "float": TENSORS["float"].reshape(3, 2)},
        "name": {**{k: v for k, v in TENSORS.items() if k != "count"}, "counts": TENSORS["count"]},
        "fewer": {k: v for k, v in TENSORS.items() if k != "empty"},
    }
    assert len({reference, *map(digest, changed.values())}) == len(changed) + 1


def test_sha256_is_that_of_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
