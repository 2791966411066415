"""Looking a folder over: what was put wrong is found, named and rated; a clean folder has no problem."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from boxed_folders import COCO, VOC, draw, voc_xml
from PIL import Image

from visattn.data.check import check_folder
from visattn.types import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"


def coco(root):
    COCO["split folders"](root)


def voc(root):
    VOC["VOC's own"](root)


def classes(root):
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        for name in "ab":
            for index in range(count):
                draw(root / split / name / f"{split}{name}{index}.png", 3 * index)


def edit(root, change, split="train"):
    file = root / f"annotations/instances_{split}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def told(report, problem):
    return {one.what: one.where for one in report.findings if one.problem is problem}


@pytest.mark.parametrize("make", [coco, voc, classes])
def test_a_clean_folder_has_no_problem(make, tmp_path):
    make(tmp_path)
    report = check_folder(tmp_path)
    assert report.problems == []
    assert {split: len(own) for split, own in report.pictures.items()} == (
        {"train": 24, "val": 6, "test": 6} if make is classes else {"train": 4, "val": 2, "test": 1}
    )
    wanted = {"train": [12, 12], "val": [3, 3]} if make is classes else {"train": [3, 2], "val": [1, 1]}
    assert {split: report.counts[split].tolist() for split in wanted} == wanted


# what is done to a folder, whether that is a problem, and words of the finding and of the place it names
FOUND = {
    "missing": (coco, lambda root: (root / "train/a.png").unlink(), True, "missing pictures", "train/a.png"),
    "damaged": (coco, lambda root: (root / "valid/e.png").write_bytes(b"no"), True, "cannot be read", "e.png"),
    "emptied": (voc, lambda root: (root / "JPEGImages/a.png").write_bytes(b""), True, "cannot be read", "a.png"),
    "size": (
        coco, lambda root: edit(root, lambda c: c["images"][1].update(width=80)), True, "sizes unlike",
        "train/b.png (80x30 stated, 40x30 found)",
    ),
    "xml": (voc, lambda root: (root / "Annotations/a.xml").write_text("<a"), True, "broken files", "a.xml"),
    "json": (
        coco, lambda root: (root / "annotations/instances_valid.json").write_text("{"), True, "broken files", "valid"
    ),
    "train json": (
        coco, lambda root: (root / "annotations/instances_train.json").write_text("{"), True, "broken files", "train"
    ),
    "no xml": (voc, lambda root: (root / "Annotations/a.xml").unlink(), True, "missing annotation files", "a.xml"),
    "class": (
        coco, lambda root: edit(root, lambda c: c["annotations"][0].update(category_id=9)), True,
        "boxes of unknown classes", "category 9",
    ),
    "leak": (
        coco, lambda root: shutil.copy(root / "train/a.png", root / "valid/e.png"), True,
        "in two splits, byte for byte", "train/a.png (train) = valid/e.png (val)",
    ),
    "list": (
        voc, lambda root: (root / "ImageSets/Main/val.txt").write_text("a\ne\nf\n"), True,
        "in two splits, byte for byte", "JPEGImages/a.png (train) = JPEGImages/a.png (val)",
    ),
    "new class": (
        voc, lambda root: (root / "Annotations/g.xml").write_text(voc_xml([("cow", 1, 2, 9, 9)])), True,
        "classes that train lacks", "cow (1 in test)",
    ),
    "flat": (
        coco, lambda root: edit(root, lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 9])), False,
        "boxes without area, left out", "train/a.png (5, 5, 5, 14)",
    ),
    "outside": (
        coco, lambda root: edit(root, lambda c: c["annotations"][1].update(bbox=[5, 5, 90, 9])), False,
        "beyond their picture", "train/a.png (5, 5, 95, 14)",
    ),
    "ids": (coco, lambda root: None, False, "category ids start at 0", None),
    "gaps": (coco, lambda root: None, False, "category ids have gaps: 1, 2, 4, 5, 6", None),
    "umbrella": (coco, lambda root: None, False, "classes without any box are left out: pets", None),
    "empty": (coco, lambda root: None, False, "pictures without boxes", "train/d.png (train)"),
    "double": (
        coco, lambda root: shutil.copy(root / "train/a.png", root / "train/b.png"), False, "twice in a split",
        "train/a.png (train) = train/b.png (train)",
    ),
    "same name": (
        coco,
        lambda root: (
            (root / "valid/e.png").rename(root / "valid/a.rf.123.png"),
            edit(root, lambda c: c["images"][0].update(file_name="a.rf.123.png"), "valid"),
        ),
        False, "same name in two splits", "train/a.png (train) = valid/a.rf.123.png (val)",
    ),
    "unlisted": (coco, lambda root: draw(root / "train/new.png"), False, "no split lists", "train/new.png"),
    "rare": (voc, lambda root: None, False, "fewer than 10", "cat (3)"),
    "lacking": (
        voc, lambda root: (root / "Annotations/g.xml").write_text(voc_xml([("cat", 1, 2, 9, 9)])), False,
        "classes that test lacks", "dog",
    ),
    "class picture": (
        classes, lambda root: (root / "train/a/traina0.png").write_bytes(b"no"), True, "cannot be read", "traina0.png"
    ),
    "class leak": (
        classes, lambda root: shutil.copy(root / "train/a/traina0.png", root / "test/b/testb0.png"), True,
        "in two splits, byte for byte", "train/a/traina0.png (train) = test/b/testb0.png (test)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_put_wrong_is_found(name, tmp_path):
    make, damage, problem, words, place = FOUND[name]
    make(tmp_path)
    damage(tmp_path)
    report = check_folder(tmp_path)
    matching = [(what, where) for what, where in told(report, problem).items() if words in what]
    assert len(matching) == 1, told(report, True) | told(report, False)
    if place is not None:
        assert any(place in one for one in matching[0][1]), matching


def test_a_test_split_that_is_val_is_no_leak(tmp_path):
    COCO["split folders"](tmp_path)
    (tmp_path / "annotations/instances_test.json").unlink()
    with pytest.warns(UserWarning, match="val serves as test"):
        report = check_folder(tmp_path)
    assert report.problems == []
    assert set(report.pictures) == {"train", "val"}


@pytest.mark.parametrize(("root", "words"), [("nowhere", "no such folder"), ("empty", "no pictures in")])
def test_a_folder_that_cannot_be_one_is_an_error(root, words, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        check_folder(tmp_path / root)


def test_a_json_beside_class_folders_is_no_annotation(tmp_path):
    classes(tmp_path)
    (tmp_path / "about.json").write_text('{"licence": "none"}')
    assert check_folder(tmp_path).class_names == ["a", "b"]


def test_progress_counts_each_picture_once(tmp_path):
    coco(tmp_path)
    calls = []
    check_folder(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 7) for n in range(1, 8)]


def unpack(name, root):
    archive = SHARED / "data" / name / f"{name}.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent")
    with tarfile.open(archive) as file:
        file.extractall(root, filter="data")


@pytest.mark.slow
def test_the_quirks_that_the_readme_of_the_blood_cells_names_are_found(tmp_path):
    unpack("bccd-voc", tmp_path)
    report = check_folder(tmp_path)
    assert report.problems == []
    flat = told(report, False)["boxes without area, left out"]
    assert sorted(one.split("_")[1] for one in flat) == [
        "00338.jpg (504, 337, 504, 337)",
        "00343.jpg (181, 329, 181, 329)",
    ]
    assert len(report.findings) == 1


@pytest.mark.slow
def test_the_quirks_that_the_readme_of_the_chess_pieces_names_are_found(tmp_path):
    unpack("chess-coco", tmp_path)
    report = check_folder(tmp_path)
    notes = told(report, False)
    assert report.problems == []
    assert "category ids start at 0; COCO's own start at 1" in notes
    assert "classes without any box are left out: pieces" in notes
    assert notes["classes of which train has fewer than 10"] == ["bishop (1)"]
    empty = next(where for what, where in notes.items() if what.startswith("pictures without boxes"))
    assert [one.endswith("(test)") for one in empty] == [True]
    assert report.counts["train"].sum() == 2108


def test_grey_and_tiny_pictures_are_read(tmp_path):
    coco(tmp_path)
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "train/a.png")
    assert check_folder(tmp_path).problems == []
