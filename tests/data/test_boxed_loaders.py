"""Detection batches: lists of bytes and targets that no worker, rank or restart changes."""

import hashlib
import io

import numpy as np
import pytest
import torch
from boxed_folders import COCO, VOC
from test_loaders import attach, batches

from visattn.data import ClutterData, CocoData, VocData
from visattn.types import DetectionBatch

STRONG = [
    {"HorizontalFlip": {"p": 0.5}},
    {"RandomCrop": {"height": 60, "width": 80}},
    {"RandomScale": {"scale_limit": 0.3, "p": 0.5}},
    {"GaussNoise": {"p": 0.5}},
]


def module(workers=0, **changes):
    given = {"train": 26, "val": 11, "test": 4, "batch_size": 4, "workers": workers, "transforms": STRONG}
    return ClutterData("detection", **given | changes)


def digest(found):
    digest = hashlib.sha256()
    for batch in found:
        for image, target in zip(batch.images, batch.targets, strict=True):
            for part in (image, *target.values()):
                digest.update(f"{tuple(part.shape)}".encode() + part.contiguous().numpy().tobytes())
        digest.update(batch.indices.numpy().tobytes())
    return digest.hexdigest()


def test_batches_are_equal_for_any_workers_and_epochs_differ():
    first, second = (digest(batches(module(), epoch)) for epoch in (0, 1))
    assert first != second
    for workers in (1, 2):
        loader = module(workers).train_dataloader()
        for epoch, wanted in ((0, first), (1, second)):  # persistent workers hear of the next epoch too
            loader.sampler.set_epoch(epoch)
            assert digest(loader) == wanted


def test_a_restart_goes_on_where_it_was():
    """The order and pixels of epoch 1 need nothing of epoch 0."""
    whole = module()
    batches(whole, 0)
    assert digest(batches(whole, 1)) == digest(batches(module(), 1))


@pytest.mark.parametrize("split", ["train", "val"])
def test_two_ranks_share_the_batches_of_one_process(split):
    def load(rank, world):
        return list(getattr(attach(module(), rank, world), f"{split}_dataloader")())

    alone, first, second = load(0, 1), load(0, 2), load(1, 2)
    assert len(first) == len(second)
    if split == "train":
        for whole, *shares in zip(alone, first, second, strict=True):
            for place, share in enumerate(shares):
                assert all(torch.equal(a, b) for a, b in zip(whole.images[place::2], share.images, strict=True))
    seen = torch.cat([batch.indices for batch in first + second])
    assert sorted(seen.tolist()) == sorted(torch.cat([batch.indices for batch in alone]).tolist())


def test_batches_are_lists_of_bytes_and_targets():
    found = batches(module(), 0)
    assert len({tuple(image.shape) for batch in found for image in batch.images}) > 1  # sizes may differ
    for batch in found:
        assert isinstance(batch, DetectionBatch)
        assert batch.indices.dtype == torch.int64
        for image, target in zip(batch.images, batch.targets, strict=True):
            assert (image.dtype, image.shape[0]) == (torch.uint8, 3)
            boxes, labels = target["boxes"], target["labels"]
            assert (boxes.dtype, boxes.shape) == (torch.float32, (len(labels), 4))
            assert (labels.dtype, labels.ndim) == (torch.int64, 1)
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert (boxes >= 0).all()
            assert (boxes[:, 0::2] <= image.shape[2]).all()
            assert (boxes[:, 1::2] <= image.shape[1]).all()


def test_pictures_without_boxes_are_trained_on():
    data = module(train=60, transforms=[])
    empty = {i for i in range(60) if not len(data.dataset("train").labels_of(i))}
    assert empty
    shown = {int(i): t for b in batches(data, 0) for i, t in zip(b.indices, b.targets, strict=True)}
    assert empty <= set(shown)
    assert all(shown[i]["boxes"].shape == (0, 4) for i in empty)


def test_evaluation_is_plain_and_in_order():
    data = module()
    kept = [pair for batch in data.val_dataloader() for pair in zip(batch.images, batch.targets, strict=True)]
    pictures = data.dataset("val")
    assert len(kept) == len(pictures) == 11
    for index, (image, target) in enumerate(kept):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pictures.picture(index))
        assert np.array_equal(target["boxes"].numpy(), pictures.boxes(index))
        assert np.array_equal(target["labels"].numpy(), pictures.labels_of(index))
        assert set(target) == {"boxes", "labels", "iscrowd", "area"}
    with pytest.raises(IndexError):
        pictures[11]


def test_targets_are_copies():
    """A detector that changes a target in place must not change the data set."""
    data = module(transforms=[])
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            for target in batch.targets:
                for part in target.values():
                    part.fill_(7)
    fresh = module(transforms=[])
    for split in ("train", "val"):
        for kept, wanted in zip(data.dataset(split).objects, fresh.dataset(split).objects, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(kept, wanted, strict=True))


def test_the_order_digest_knows_boxes(tmp_path):
    COCO["split folders"](tmp_path)
    before = CocoData(str(tmp_path), 2, workers=0).order_digest()
    assert before == CocoData(str(tmp_path), 2, workers=2).order_digest()
    file = tmp_path / "annotations/instances_train.json"
    file.write_text(file.read_text().replace('"bbox": [1, 2, 10, 20]', '"bbox": [1, 2, 10, 21]'))
    assert before != CocoData(str(tmp_path), 2, workers=0).order_digest()


def test_hyper_parameters_load_without_code(tmp_path):
    COCO["split folders"](tmp_path / "coco")
    VOC["VOC's own"](tmp_path / "voc")
    for data in (module(), CocoData(tmp_path / "coco", 2, workers=0), VocData(tmp_path / "voc", 2, workers=0)):
        file = io.BytesIO()
        torch.save({"hyper": dict(data.hparams), "state": data.state_dict()}, file)
        file.seek(0)
        kept = torch.load(file, weights_only=True)
        again = type(data)(**kept["hyper"])
        assert dict(again.hparams) == dict(data.hparams)
        again.load_state_dict(kept["state"])
        assert again.order_digest() == data.order_digest()


def test_flip_is_part_of_the_defaults_and_can_be_switched_off(tmp_path):
    COCO["split folders"](tmp_path)

    def mirrored(**how):
        data = CocoData(str(tmp_path), 4, workers=0, **how)
        found = [b.targets[list(b.indices).index(0)]["boxes"] for epoch in range(12) for b in batches(data, epoch)]
        # cat left, dog right; unless mirrored
        return {bool(boxes[0, 0] > boxes[1, 0]) for boxes in found if len(boxes) == 2}

    assert mirrored() == {True, False}
    assert mirrored(flip=False) == {False}
