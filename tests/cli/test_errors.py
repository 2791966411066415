"""Bad input ends with one line that names the valid choices, status 2, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from visattn.cli.main import main

FIT = ["fit", "--config", "experiment/clutter_classification"]
DETECT = ["fit", "--config", "experiment/clutter_detection"]
BAD = [
    (["blok"], "did you mean 'blocks'"),
    (["blocks", "cbma"], "did you mean 'cbam'"),
    (["fit"], "no --config"),
    (["fit", "--config", "experiment/clutter"], "valid: a file, or one of experiment/clutter_classification"),
    (["fit", "--resume", "nowhere"], "is no run folder"),
    ([*FIT, "--model.attention=cbma"], "did you mean 'cbam'"),
    ([*FIT, "--model.attention={block: se, reductio: 4}"], "did you mean 'reduction'"),
    ([*FIT, "--model.attention={layr3.*: se}"], "near names: layer3"),
    ([*FIT, "--model.attentio=se"], "did you mean 'attention'"),
    ([*FIT, "--modl.attention=se"], "valid: model, data, trainer"),
    ([*FIT, "--trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'"),
    ([*FIT, "--data.batch_size=many"], "'batch_size' cannot be many"),
    ([*FIT, "--model.backbone=resnet1818"], "did you mean 'resnet18'"),
    ([*FIT, "--wandb=maybe"], "valid: off, offline, online"),
    (["fit", "--config", "experiment/folder_classification"], "'root' is not set"),
    (["fit", "--config", "experiment/folder_classification", "--data.root=nowhere"], "nowhere is missing"),
    ([*DETECT, "--model.arch=fcoss"], "did you mean 'fcos'"),
    ([*DETECT, "--model.attention={block: cbam, at: fpnn}"], "fpnn"),
    ([*DETECT, "--model.channels=65"], "channels must be a multiple of 32"),
    ([*DETECT, "--model.norms=frosen"], "frosen"),
    ([*DETECT, "--model.image_size=[]"], "image_size"),
    ([*DETECT, "--model.image_sise=64"], "did you mean 'image_size'"),
    (["fit", "--config", "experiment/voc_detection"], "'root' is not set"),
    (["fit", "--config", "experiment/coco_detection", "--data.root=nowhere"], "nowhere is missing"),
    (["predict", "pictures", "--checkpoint", "nowhere", "--threshold", "2"], "--threshold must be 0 to 1"),
    (["predict", "pictures", "--checkpoint", "nowhere"], "checkpoint 'nowhere' does not exist"),
    (["predict", "pictures"], "--checkpoint"),
    (["maps", "pictures", "--checkpoint", "nowhere"], "checkpoint 'nowhere' does not exist"),
    (["export", "--checkpoint", "x", "--format", "tflite"], "valid: onnx, pt2"),
    (["sites", "resnet1818"], "did you mean 'resnet18'"),
    (["sites", "test_resnet", "--block", "{"], "attention '{' cannot be read as YAML"),
    (["bench", "everything"], "valid: blocks, model"),
    (["bench", "model", "--attention", "none,{"], "cannot be read as YAML"),
    (["data", "look"], "valid: check"),
    (["data", "check"], "folder"),
    (["data", "check", "nowhere"], "no such folder: nowhere"),
    (["data", "check", "."], "no pictures in ."),
    (["report", "nowhere"], "nowhere"),
    (["compare", "go"], "valid: run, plan"),
    (["compare", "plan", "--config", "experiment/clutter_classification", "--attention", "none,cbma"], "'cbam'"),
    (["compare", "plan", "--config", "experiment/clutter_classification", "--attention", "se", "--seeds", "x"], "0-2"),
    (
        ["compare", "plan", "--config", "experiment/clutter_classification", "--attention", "se", "--bogus=1"],
        "override",
    ),
]


@pytest.mark.parametrize(("args", "message"), BAD, ids=[" ".join(args[-2:]) for args, _ in BAD])
def test_bad_input(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(args)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("visattn: ")
    assert said.count("\n") == 1
    assert message in said
    assert list(tmp_path.iterdir()) == []


def test_a_used_folder_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(SystemExit) as end:
        main([*FIT, f"--out={tmp_path}", "--data.train=32", "--data.val=10", "--data.test=10"])
    assert end.value.code == 2
    assert "already holds a run" in capsys.readouterr().err
