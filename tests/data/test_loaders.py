"""Batches do not change with workers, ranks or restarts; they travel as channels_last bytes."""

import hashlib
import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visattn.data import ClutterData, FolderData
from visattn.types import ClassificationBatch, UsageError

STRONG = [{"RandomResizedCrop": {"scale": [0.3, 1.0]}}, {"HorizontalFlip": {"p": 0.5}}, {"GaussNoise": {"p": 0.5}}]
RUN = """
import sys
sys.path.insert(0, {here!r})
from test_loaders import digest, module
print(digest(module(0), 1))
"""


def module(workers, **changes):
    return ClutterData(
        **{"train": 40, "val": 11, "test": 4, "batch_size": 8, "workers": workers, "transforms": STRONG} | changes
    )


def attach(data, rank, world):
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world, strategy=device)
    return data


def batches(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def digest(data, epoch):
    digest = hashlib.sha256()
    for batch in batches(data, epoch):
        for part in batch:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_batches_are_equal_for_any_workers_and_epochs_differ():
    plain = module(0)
    first, second = digest(plain, 0), digest(plain, 1)
    assert first != second
    for workers in (1, 2):
        loader = (data := module(workers)).train_dataloader()
        for epoch, wanted in ((0, first), (1, second)):  # persistent workers hear of the next epoch too
            loader.sampler.set_epoch(epoch)
            data.train_dataloader = lambda loader=loader: loader
            assert digest(data, epoch) == wanted


def test_batches_are_equal_in_another_process():
    here = str(__import__("pathlib").Path(__file__).parent)
    result = subprocess.run(
        [sys.executable, "-c", RUN.format(here=here)], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == digest(module(0), 1)


def test_augmentation_of_one_picture_changes_with_the_epoch():
    data = module(0)
    shown = [
        {int(i): image for b in batches(data, epoch) for i, image in zip(b.indices, b.images, strict=True)}
        for epoch in (0, 1)
    ]
    assert set(shown[0]) == set(shown[1]) == set(range(40))
    assert sum(not torch.equal(shown[0][index], shown[1][index]) for index in range(40)) > 35


@pytest.mark.parametrize("split", ["train", "val"])
def test_two_ranks_share_the_batches_of_one_process(split):
    def load(rank, world):
        loader = getattr(attach(module(0), rank, world), f"{split}_dataloader")()
        return list(loader)

    alone, first, second = load(0, 1), load(0, 2), load(1, 2)
    assert len(first) == len(second)
    if split == "train":
        for whole, *shares in zip(alone, first, second, strict=True):
            assert torch.equal(whole.images[0::2], shares[0].images)
            assert torch.equal(whole.images[1::2], shares[1].images)
    seen = torch.cat([batch.indices for batch in first + second])
    assert sorted(seen.tolist()) == sorted(torch.cat([batch.indices for batch in alone]).tolist())


def test_a_batch_the_ranks_cannot_share_is_refused():
    with pytest.raises(UsageError, match=r"batch_size 8 .* 3 devices"):
        attach(module(0), 0, 3).train_dataloader()


def test_batches_travel_as_channels_last_bytes():
    batch = next(iter(module(0).train_dataloader()))
    assert isinstance(batch, ClassificationBatch)
    assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (8, 3, 64, 64))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == batch.indices.dtype == torch.int64
    assert torch.equal(batch.labels, batch.indices % 10)


def test_evaluation_is_plain_and_in_order():
    data = module(0)
    images = torch.cat([batch.images for batch in data.val_dataloader()])
    assert len(images) == 11
    for index, image in enumerate(images):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), data.dataset("val").picture(index))


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(module(0), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_setup_builds_once():
    data = module(0)
    data.setup("fit")
    pictures = data.dataset("train")
    data.setup()
    assert data.dataset("train") is pictures
    with pytest.raises(UsageError, match=r"unknown split 'valid'.* valid: train, val, test"):
        data.dataset("valid")


def test_the_order_digest_knows_seed_batch_and_pictures():
    digests = [module(0).order_digest(), module(2).order_digest()]
    assert digests[0] == digests[1] == attach(module(0), 1, 2).order_digest()
    others = [module(0, **change).order_digest() for change in ({"seed": 1}, {"batch_size": 4}, {"train": 48})]
    assert len({digests[0], *others}) == 4


def folder(root):
    for name in "ab":
        for index in range(10):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((20, 30, 3), index, np.uint8)).save(root / name / f"{index}.png")
    return FolderData(root, image_size=16, batch_size=2, workers=0)


def test_hyper_parameters_load_without_code(tmp_path):
    for data in (module(0), folder(tmp_path)):
        file = io.BytesIO()
        torch.save({"hyper": dict(data.hparams), "state": data.state_dict()}, file)
        file.seek(0)
        kept = torch.load(file, weights_only=True)
        again = type(data)(**kept["hyper"])
        assert dict(again.hparams) == dict(data.hparams)
        again.load_state_dict(kept["state"])
        assert again.order_digest() == data.order_digest()


def test_other_classes_than_the_checkpoint_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"10 classes \(0, 1, .*the data has 2 \(a, b\)"):
        folder(tmp_path).load_state_dict(module(0).state_dict())


def test_flip_is_off_until_asked_for(tmp_path):
    data = folder(tmp_path)
    ramp = np.linspace(0, 255, 30).astype(np.uint8)[None, :, None] * np.ones((20, 1, 3), np.uint8)
    for path in data.dataset("train").paths:
        Image.fromarray(ramp).save(path)

    def mirrored(data):
        images = torch.cat([batch.images for epoch in range(2) for batch in batches(data, epoch)]).float()
        return (images[..., 0].mean((1, 2)) > images[..., -1].mean((1, 2))).tolist()

    assert not any(mirrored(data))
    both = mirrored(FolderData(str(tmp_path), image_size=16, batch_size=2, workers=0, flip=True))
    assert any(both)
    assert not all(both)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named_in_one_line(workers, tmp_path):
    folder(tmp_path)
    for name in "ab":
        for path in (tmp_path / name).iterdir():
            path.write_bytes(b"damaged")
    data = FolderData(str(tmp_path), image_size=16, batch_size=2, workers=workers)
    with pytest.raises(UsageError) as caught:
        batches(data, 0)
    assert str(caught.value).startswith("cannot read picture ")
    assert "\n" not in str(caught.value)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, visattn.data, visattn.data.sampling, visattn.data.images; "
        "print([name for name in ('lightning', 'albumentations', 'sklearn', 'timm', 'wandb') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
