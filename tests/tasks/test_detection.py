"""The detection task: its losses, its scores, what it says; and training as a user runs it (slow)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visattn.cli.main import main
from visattn.data.boxed import collate_boxed
from visattn.data.clutter import ClutterData
from visattn.tasks.average_precision import Found
from visattn.tasks.detection import Costed, DetectionTask, as_floats
from visattn.tasks.detection_results import confusion, table
from visattn.tasks.found import marked, result_rows
from visattn.tasks.matches import average_precision, load_matches
from visattn.tasks.restore import restore
from visattn.tasks.tables import read_rows
from visattn.types import DetectionBatch, UsageError

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/experiment/clutter_detection.yaml"
TINY = {"backbone": "test_resnet", "image_size": 64, "channels": 64, "class_names": ["dog", "cat"]}
SMALL = ["--config", str(CONFIG), "--trainer.accelerator=cpu", "--model.backbone=test_resnet", "--data.batch_size=8"]
SMALL += ["--data.train=24", "--data.val=8", "--data.test=8", "--trainer.max_epochs=2"]


def task(**options: Any) -> DetectionTask:
    """Return a tiny task whose log is a dict."""
    torch.manual_seed(0)
    made = DetectionTask(**{**TINY, **options})
    made.logged = {}
    made.log = lambda name, value, **_: made.logged.update({name: value.item()})
    made.log_dict = lambda values, **_: made.logged.update({name: value.item() for name, value in values.items()})
    return made


def batch(*counts: int) -> DetectionBatch:
    """Return uint8 pictures of different sizes with so many boxes each."""
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 255, (3, 50 + 7 * i, 64), dtype=np.uint8)) for i in range(len(counts))]
    corners = [torch.from_numpy(rng.uniform(2, 20, (n, 2)).astype(np.float32)) for n in counts]
    targets = [
        {"boxes": torch.cat([c, c + 24], 1), "labels": torch.arange(n, dtype=torch.int64) % 2}
        for c, n in zip(corners, counts, strict=True)
    ]
    return DetectionBatch(images, targets, torch.arange(len(counts)))


@pytest.mark.parametrize(
    ("arch", "counts"), [("fcos", (2, 1)), ("fcos", (0, 0)), ("fasterrcnn", (1, 0)), ("fasterrcnn", (0, 0))]
)
def test_losses_are_logged_one_by_one(arch: str, counts: tuple[int, ...]) -> None:
    made = task(arch=arch, attention="eca")
    total = made.training_step(batch(*counts), 0)
    terms = [value for name, value in made.logged.items() if name.startswith("train/loss_")]
    assert len(terms) >= 3
    assert made.logged["train/loss"] == pytest.approx(sum(terms), rel=1e-5)
    total.backward()
    gradients = [p.grad for p in made.network.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


class Broken(torch.nn.Module):
    """A detector whose boxes have gone astray."""

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"box": torch.tensor(float("nan")), "class": torch.tensor(1.0)}


def test_a_loss_that_is_not_finite_is_named() -> None:
    made = task()
    made.network = Broken()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"step 0 is not finite \(box nan, class 1\)"):
        made.training_step(batch(1), 0)


def test_bytes_become_floats_once() -> None:
    assert as_floats(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]
    half = torch.tensor([0.5])
    assert as_floats(half) is half


def test_norms_and_sizes_reach_the_detector() -> None:
    made = task(norms="frozen", image_size=[48, 64], attention="cbam")
    assert made.network.transform.min_size == (48, 64)
    assert made.picture_size({}) == 64
    frozen = [p for name, p in made.network.named_parameters() if not p.requires_grad]
    assert frozen
    made.train()
    seen = {tuple(made.network.transform([torch.rand(3, 64, 64)])[0].image_sizes[0]) for _ in range(20)}
    assert seen == {(48, 48), (64, 64)}


def test_what_it_sees_is_cropped_and_marked() -> None:
    made = task(attention="cbam", score_threshold=0.0, class_names=list("0123456789")).eval()
    data = ClutterData("detection", train=1, val=2, test=1, transforms=[])
    pictures = collate_boxed([data.dataset("val")[i] for i in range(2)])
    seen = made.see(pictures.images, pictures.targets)
    assert seen.maps is not None
    assert seen.frames is not None
    assert seen.frames.pictures == [tuple(image.shape[1:]) for image in pictures.images]
    for boxes, target, text in zip(seen.boxes, pictures.targets, seen.said, strict=True):
        assert sum(one.score is None for one in boxes) == len(target["boxes"])
        assert text.startswith(f"objects={len(target['boxes'])}  found=")
    (first, _) = made.cam(pictures.images)
    assert first.shape == pictures.images[0].shape[1:]
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert len(made.sorts(data.dataset("val"))) == 2


def test_its_cost_can_be_measured() -> None:
    costed = Costed(task(arch="retinanet").network)
    images = torch.randn(2, 3, 64, 64)
    assert all(value.requires_grad for value in costed.train()(images).values())
    assert len(costed.eval()(images)) == 2


BOX = np.array([[10.0, 10.0, 50.0, 50.0], [100.0, 100.0, 140.0, 140.0]])


def found(labels: list[int], scores: list[float], truths: list[int], crowd: list[bool]) -> Found:
    """Return a picture with boxes at the same places as its objects."""
    n, m = len(labels), len(truths)
    return Found(
        BOX[:n], np.array(scores), np.array(labels, int), BOX[:m], np.array(truths, int), np.array(crowd), np.ones(m)
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (found([0, 1], [0.9, 0.9], [0, 1], [False, False]), {(0, 0): 1, (1, 1): 1}),
        (found([1], [0.9], [0, 1], [False, False]), {(0, 1): 1, (1, 2): 1}),
        (found([0, 1], [0.9, 0.3], [0], [False]), {(0, 0): 1}),
        (found([0, 1], [0.9, 0.8], [0], [False]), {(0, 0): 1, (2, 1): 1}),
        (found([0], [0.9], [0], [True]), {}),
    ],
    ids=["right", "wrong class and missed", "unsure", "nothing there", "crowd"],
)
def test_confusion(one: Found, expected: dict[tuple[int, int], int]) -> None:
    matrix = confusion({0: one}, 2)
    assert {(i, j): matrix[i, j] for i, j in zip(*matrix.nonzero(), strict=True)} == expected


def test_results_and_marks() -> None:
    one = found([0, 1], [0.3, 0.9], [0], [False])
    rows = result_rows(one, "a.jpg", [7, 9])
    assert [(row["category_id"], row["score"]) for row in rows] == [(9, 0.9), (7, 0.3)]
    assert rows[0]["bbox"] == [100.0, 100.0, 40.0, 40.0]
    assert [(m.name, m.score) for m in marked(one, ["dog", "cat"])] == [("dog", None), ("cat", 0.9)]
    assert len(marked(one, ["dog", "cat"], 0.2)) == 3


def test_the_table_leaves_out_what_is_not_known() -> None:
    text = table({"metrics": {"test/AP": 0.5, "test/AP50": 0.75, "test/AP_small": 0.25}, "per_class": {"dog": 0.5}})
    assert [line.split() for line in text.splitlines()][1] == ["AP", "50.0", "25.0", "-", "-", "75.0", "-"]
    assert text.splitlines()[-1].split() == ["dog", "50.0", "nan"]


def fit(*args: str) -> None:
    """Run ``visattn fit`` in this process."""
    with pytest.raises(SystemExit) as end:
        main(["fit", *SMALL, *args])
    assert end.value.code == 0


def state(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    weights: dict[str, torch.Tensor] = torch.load(max((run / "checkpoints").glob("*.ckpt")), weights_only=True)[
        "state_dict"
    ]
    return weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with CBAM, EMA, several sizes and maps."""
    folder = tmp_path_factory.mktemp("detection") / "run"
    callbacks = [
        "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging",
        "--trainer.callbacks+=visattn.callbacks.AttentionMaps",
        "--trainer.callbacks.pictures=2",
    ]
    fit(f"--out={folder}", "--model.attention=cbam", "--model.image_size=[64,96]", *callbacks)
    return folder


@pytest.mark.slow
def test_a_run_folder_is_complete(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    files = {"config.yaml", "metrics.csv", "checkpoints", "result.json", "predictions.json", "matches.npz"}
    assert files | {"confusion.png", "precision_recall.png", "pictures", "pairing.json", "maps"} <= names
    result = json.loads((run / "result.json").read_text())
    assert result["metric"]["key"] == "AP"
    assert average_precision(load_matches(run / "matches.npz")) == pytest.approx(result["metrics"]["test/AP"])
    assert set(result["per_class_AP50"]) == set(result["per_class"])
    assert {row["category_id"] for row in json.loads((run / "predictions.json").read_text())} <= set(range(1, 11))
    rows = read_rows(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"train/loss", "train/loss_classification", "val/AP", "val/AP50"} <= rows[0].keys()
    assert len(list((run / "maps/epoch=0001").glob("*.jpg"))) > 3


@pytest.mark.slow
def test_a_run_can_be_tested_predicted_and_looked_at(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((run / "result.json").read_text())["metrics"]
    pictures = [str(tmp_path / name) for name in ("0.png", "1.png")]
    for path, size in zip(pictures, [(120, 80), (64, 100)], strict=True):
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    commands = [
        ["test", "--config", str(run / "config.yaml"), f"--ckpt_path={run}", f"--out={tmp_path / 'again'}"],
        ["predict", "--checkpoint", str(run), *pictures, "--out", str(tmp_path / "found")],
        ["maps", "--checkpoint", str(run), *pictures, "--out", str(tmp_path / "maps")],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    assert "AR, 100 a picture" in capsys.readouterr().out
    assert json.loads((tmp_path / "again/result.json").read_text())["metrics"] == before
    written = {path.name for path in (tmp_path / "found").iterdir()}
    assert written == {"predictions.json", "categories.json", "0.jpg", "1.jpg"}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"0.jpg", "1.jpg"}
    assert isinstance(restore(run).task, DetectionTask)


@pytest.mark.slow
def test_two_processes_score_every_picture_once(tmp_path: Path) -> None:
    # 9 test pictures and 5 of validation on 2 ranks: uneven shards
    how = ["--data.test=9", "--data.val=5", "--model.attention=se", "--trainer.max_epochs=1"]
    two, one = tmp_path / "two", tmp_path / "one"
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "visattn", "fit", *SMALL, *how, *ddp, f"--out={two}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(load_matches(two / "matches.npz").pictures) == 9
    with pytest.raises(SystemExit):
        main(["test", "--config", str(CONFIG), *SMALL[2:], *how, f"--ckpt_path={two}", f"--out={one}"])
    scores = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (one, two)]
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.slow
def test_mixed_precision_trains(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(f"--out={out}", "--trainer.precision=bf16-mixed", "--trainer.gradient_clip_val=1", "--model.channels_last=true")
    losses = [float(row["train/loss"]) for row in read_rows(out / "metrics.csv")]
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_a_resumed_run_is_bit_exact(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    how = ["--model.image_size=[64,96]", "--model.attention=se", "--test_after=false", "--data.workers=1"]
    fit(f"--out={whole}", *how)
    stop = ["--trainer.callbacks+=stops.StopAfter", "--trainer.callbacks.epochs=1"]
    fit(f"--out={cut}", *how, *stop)
    (cut / "config.yaml").write_text((cut / "config.yaml").read_text().replace("epochs: 1", "epochs: 99"))
    with pytest.raises(SystemExit) as end:
        main(["fit", "--resume", str(cut)])
    assert end.value.code == 0
    a, b = state(whole), state(cut)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
