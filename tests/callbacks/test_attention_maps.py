import json
import random
import subprocess
import sys
from collections import Counter

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from visattn.callbacks import AttentionMaps
from visattn.callbacks.attention_maps import choose
from visattn.insertion.attend import attend
from visattn.maps.capture import capture
from visattn.tasks.classification import ClassificationTask
from visattn.types import ClassificationBatch, UsageError

KEYS = ["2/cbam.channel", "2/cbam.spatial"]
pytestmark = [
    # Lightning's use of torch, its advice on workers and on the norm that is frozen here on purpose
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found 1 module.* in eval mode"),
]


class Pictures(Dataset):
    """Three classes of coloured noise."""

    def __init__(self, count):
        rng = np.random.default_rng(count)
        self.labels = np.arange(count) % 3
        self.names = [f"picture {i}" for i in range(count)]
        self.images = rng.integers(60, 200, (count, 16, 16, 3), dtype=np.uint8)
        self.images[np.arange(count), 4:10, 4:10, self.labels] = 255

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index]).movedim(-1, 0), int(self.labels[index]), index


class Data(L.LightningDataModule):
    class_names = ("red", "green", "blue")

    def dataset(self, split):
        return Pictures({"train": 24, "val": 12}[split])

    def loader(self, split, **keywords):
        def collate(samples):
            images, labels, indices = zip(*samples, strict=True)
            return ClassificationBatch(torch.stack(images), torch.tensor(labels), torch.tensor(indices))

        return DataLoader(self.dataset(split), batch_size=8, collate_fn=collate, **keywords)

    def train_dataloader(self):
        return self.loader("train", shuffle=True)

    def val_dataloader(self):
        return self.loader("val")


class Task(L.LightningModule):
    """A tiny host with batch norm, dropout and attention; augments from the global generators."""

    class_names = ("red", "green", "blue")

    def __init__(self, attention="cbam", compiled=False):
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.network = nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(8, 3))
        if attention:
            attend(self.network, attention, at="2")
        self.network[1].eval()  # as where a norm is frozen
        if compiled:
            self.network.compile(backend="eager")

    see = ClassificationTask.see
    sorts = ClassificationTask.sorts

    def normalise(self, images):
        return images.float() / 255 - 0.5

    def training_step(self, batch, batch_idx):
        noise = torch.from_numpy(np.random.normal(size=(1,)).astype(np.float32)) + random.random()  # noqa: NPY002
        return F.cross_entropy(self.network(self.normalise(batch.images) + 0.01 * noise), batch.labels)

    def validation_step(self, batch, batch_idx):
        self.network(self.normalise(batch.images))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)


def fit(folder, *callbacks, task=None, logger=False, **keywords):
    task = task or Task()
    L.seed_everything(1, verbose=False)
    options = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"enable_checkpointing": False, "log_every_n_steps": 1} | keywords
    trainer = L.Trainer(default_root_dir=folder, callbacks=list(callbacks), logger=logger, **options)
    trainer.fit(task, datamodule=Data())
    return task, trainer


def drawn(folder):
    return {path.name: sorted(file.name for file in path.iterdir()) for path in sorted(folder.glob("maps/epoch=*"))}


def said(warnings):
    """How many warnings are the callback's."""
    return sum(any(word in str(one.message) for word in ("attention maps", "matches no map")) for one in warnings)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def assert_shows_something(path):
    pixels = pixels_of(path)
    assert pixels.std() > 20
    assert pixels.mean() > 30


def test_files_of_every_epoch_show_the_same_pictures(tmp_path):
    fit(tmp_path, AttentionMaps(pictures=4))
    files = drawn(tmp_path)
    assert list(files) == ["epoch=0000", "epoch=0001"]
    assert files["epoch=0000"] == files["epoch=0001"]
    chosen = json.loads((tmp_path / "maps/pictures.json").read_text())
    expected = {f"2-cbam.{tap}-{row['id']}.jpg" for tap in ("channel", "spatial") for row in chosen}
    assert set(files["epoch=0000"]) == expected | {"sheet.jpg"}
    for row in chosen:
        assert row["label"] == Data.class_names[row["id"] % 3]
        assert row["name"] == f"picture {row['id']}"
    for path in tmp_path.glob("maps/*/*.jpg"):
        assert_shows_something(path)


@pytest.mark.parametrize(
    ("every", "keywords", "epochs"),
    [
        (2, {"max_epochs": 4}, [0, 2, 3]),
        (3, {"max_epochs": 4}, [0, 3]),
        (1, {"max_epochs": 3, "check_val_every_n_epoch": 2}, [1, 2]),
        (1, {"max_epochs": 2, "val_check_interval": 1}, [0, 1]),
        (5, {"max_epochs": 3, "limit_val_batches": 0}, [2]),
        (1, {"max_steps": 4, "max_epochs": 9}, [0, 1]),
    ],
)
def test_epochs_that_are_drawn(tmp_path, every, keywords, epochs):
    fit(tmp_path, AttentionMaps(pictures=1, every=every, maps="*.spatial"), **keywords)
    assert list(drawn(tmp_path)) == [f"epoch={epoch:04d}" for epoch in epochs]
    assert all(len(files) == 2 for files in drawn(tmp_path).values())


def test_only_a_fit_draws(tmp_path):
    trainer = L.Trainer(default_root_dir=tmp_path, callbacks=[AttentionMaps()], logger=False, accelerator="cpu",
                        enable_progress_bar=False)  # fmt: skip
    trainer.validate(Task(), datamodule=Data(), verbose=False)
    assert drawn(tmp_path) == {}


class States(L.Callback):
    """Notes modes and generators at each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        modes = tuple(module.training for module in pl_module.modules())
        numbers = torch.get_rng_state().sum().item(), np.random.get_state()[1].sum(), random.getstate()  # noqa: NPY002
        self.seen.append((modes, numbers, batch.indices.tolist()))


@pytest.mark.parametrize("setting", ["plain", "at the end", "compiled", "bf16-mixed", "failing"])
def test_training_is_the_same_bit_for_bit(tmp_path, setting, monkeypatch):
    keywords = {"precision": setting} if setting == "bf16-mixed" else {}
    with_maps, without, maps = States(), States(), AttentionMaps(pictures=3, every=2 if setting == "at the end" else 1)
    if setting == "failing":
        random_draw = lambda *_, **__: 1 / (torch.rand(1) * np.random.rand() * 0).item()  # noqa: E731, NPY002
        monkeypatch.setattr("visattn.callbacks.attention_maps.draw", random_draw)
        with pytest.warns(UserWarning, match="attention maps were not drawn: float division by zero") as record:
            task, _ = fit(tmp_path / "a", maps, with_maps, **keywords)
        assert said(record) == 1
    else:
        task, _ = fit(tmp_path / "a", maps, with_maps, task=Task(compiled=setting == "compiled"), **keywords)
        assert len(drawn(tmp_path / "a")) == 2
    twin, _ = fit(tmp_path / "b", without, **keywords)
    for name, value in twin.state_dict().items():
        assert torch.equal(task.state_dict()[name], value), name
    assert with_maps.seen == without.seen
    assert not any(module._forward_hooks for module in task.modules())


def test_a_baseline_is_passed_over_in_silence(tmp_path):
    fit(tmp_path, AttentionMaps(), task=Task(attention=None))
    assert not (tmp_path / "maps").exists()


def test_a_pattern_that_matches_nothing_is_named_once(tmp_path):
    with pytest.warns(UserWarning, match=r"maps='\*.spatail' matches no map; there are 2/cbam.channel") as record:
        fit(tmp_path, AttentionMaps(maps="*.spatail"))
    assert said(record) == 1
    assert not (tmp_path / "maps").exists()


def test_other_processes_draw_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda _: False))
    fit(tmp_path, AttentionMaps())
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"pictures": 0}, "1 to 108, got 0"),
        ({"pictures": 109}, "1 to 108, got 109"),
        ({"every": 0}, "every must be at least 1"),
    ],
)
def test_errors(keywords, match):
    with pytest.raises(UsageError, match=match):
        AttentionMaps(**keywords)


@pytest.mark.parametrize("count", [1, 3, 7, 30, 50])
def test_pictures_are_drawn_evenly_over_the_classes(count):
    labels = np.repeat([0, 1, 2], [30, 3, 10])
    chosen = choose(labels, count)
    assert chosen == choose(labels, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(labels))
    counts = Counter(labels[chosen].tolist())
    fair = [min(n, max(counts.values())) for n in (30, 3, 10)]
    assert all(abs(counts[k] - fair[k]) <= 1 for k in range(3))
    assert chosen[:3] != [0, 30, 33]  # a draw, not the first of each


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """W&B offline, without a key, with all its folders here; nobody is there to answer a prompt."""
    for name in ("WANDB_API_KEY", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("", "DATA_", "CACHE_", "CONFIG_"):
        (tmp_path / f"wandb{name}").mkdir()
        monkeypatch.setenv(f"WANDB_{name}DIR", str(tmp_path / f"wandb{name}"))
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off", "X_DISABLE_STATS": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc with a key
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    return tmp_path


def history(folder):
    """The rows of the one offline run under ``folder``, as wandb's own reader gives them, and its folder of files."""
    (log,) = folder.rglob("run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    if read.returncode:
        pytest.skip("this wandb has no reader of offline runs")
    records = [json.loads(line) for line in read.stdout.splitlines()]
    return [record["history"]["item"] for record in records if "history" in record], log.parent / "files"


def test_an_offline_wandb_run_holds_pictures_captions_and_numbers(offline):
    import wandb

    logger = WandbLogger(project="visattn", save_dir=str(offline), offline=True)
    task, _ = fit(offline, AttentionMaps(pictures=4), logger=logger)
    wandb.finish()
    rows, files = history(offline)
    rows = [row for row in rows if any(key.startswith("maps/") for key in row)]
    assert [row["epoch"] for row in rows] == [0, 1]
    chosen = json.loads((offline / "maps/pictures.json").read_text())
    for row in rows:
        assert row["trainer/global_step"] == 3 * (row["epoch"] + 1)
        for key in KEYS:
            assert row[f"maps/{key}.count"] == 4
            for caption, picture in zip(row[f"maps/{key}.captions"], chosen, strict=True):
                expected = f"id={picture['id']} label={picture['label']} predicted="
                assert caption.startswith(expected)
                assert caption.endswith(f" epoch={row['epoch']}")
                assert caption.removeprefix(expected).split()[0] in Data.class_names
            for name in row[f"maps/{key}.filenames"]:
                assert_shows_something(files / name)
    samples = [Data().dataset("val")[picture["id"]][0] for picture in chosen]
    with torch.no_grad(), capture(task.eval().network) as maps:
        task.network(task.normalise(torch.stack(samples)))
    for key in KEYS:  # the last row shows what training ended with
        assert rows[1][f"maps/{key}/mean"] == pytest.approx(maps.effective(key).mean().item())
        assert rows[1][f"maps/{key}/strength"] == pytest.approx(maps.info(key).strength)
        assert rows[1][f"maps/{key}/saturation"] == 0
    assert rows[0]["maps/2/cbam.spatial/strength"] != rows[1]["maps/2/cbam.spatial/strength"]


def test_tensorboard_gets_pictures_and_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path)
    fit(tmp_path, AttentionMaps(pictures=5), logger=logger)
    logger.experiment.flush()
    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
    for key in KEYS:
        pictures = events.Images(f"maps/{key}")
        assert [picture.step for picture in pictures] == [3, 6]
        (tmp_path / "read.png").write_bytes(pictures[1].encoded_image_string)
        assert_shows_something(tmp_path / "read.png")
        height, width, _ = pixels_of(next((tmp_path / "maps/epoch=0000").glob(f"{key.replace('/', '-')}-*.jpg"))).shape
        assert pixels_of(tmp_path / "read.png").shape == (2 * height, 4 * width, 3)
        assert [event.step for event in events.Scalars(f"maps/{key}/mean")] == [3, 6]


def test_a_logger_that_fails_warns_once_and_training_and_files_go_on(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("the server is away")

    monkeypatch.setattr("visattn.callbacks.attention_maps._log_tensorboard", fail)
    pytest.importorskip("tensorboard")
    with pytest.warns(
        UserWarning, match="TensorBoardLogger did not take the attention maps: the server is away"
    ) as record:
        _, trainer = fit(tmp_path, AttentionMaps(), logger=[TensorBoardLogger(tmp_path), CSVLogger(tmp_path)])
    assert said(record) == 1
    assert trainer.global_step == 6
    assert len(drawn(tmp_path)) == 2
