"""A folder's layout is found out; what it leaves open is drawn by seed; contradictions are named."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visattn.data import FolderData
from visattn.data.layouts import read_layout
from visattn.types import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 10, 3), len(name), np.uint8)).save(root / name)


def write_csv(root, rows, delimiter=","):
    with (root / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def per_class(listing, split):
    return Counter(label for _, _, label in listing.splits[split])


def class_folders(root, classes=("10", "2", "b"), count=20):
    touch(root, *(f"{name}/{index}.png" for name in classes for index in range(count)))


def test_class_folders_are_split_by_class_and_seed(tmp_path):
    class_folders(tmp_path)
    listing = read_layout(tmp_path, 0)
    assert listing.class_names == ["2", "10", "b"]
    assert [set(per_class(listing, split).values()) for split in ("train", "val", "test")] == [{14}, {3}, {3}]
    names = [name for split in listing.splits.values() for _, name, _ in split]
    assert len(set(names)) == len(names) == 60
    assert read_layout(tmp_path, 0).splits == listing.splits != read_layout(tmp_path, 1).splits
    for path, name, label in listing.splits["val"]:
        assert path == tmp_path / name
        assert listing.class_names[label] == path.parent.name


def test_a_new_picture_moves_few_others(tmp_path):
    class_folders(tmp_path, count=40)
    before = {name for _, name, _ in read_layout(tmp_path, 0).splits["train"]}
    touch(tmp_path, "2/new.png")
    after = {name for _, name, _ in read_layout(tmp_path, 0).splits["train"]}
    assert len(before ^ after) <= 5


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_split_folders_are_taken_as_they_are(val, tmp_path):
    for split, count in (("train", 5), (val, 2), ("test", 3)):
        class_folders(tmp_path / split, ("a", "b"), count)
    listing = read_layout(tmp_path, 0)
    assert [len(listing.splits[split]) for split in ("train", "val", "test")] == [10, 4, 6]
    assert listing.notes == []


def test_a_missing_val_is_drawn_from_train(tmp_path):
    class_folders(tmp_path / "train", ("a", "b"), 20)
    class_folders(tmp_path / "test", ("a", "b"), 2)
    listing = read_layout(tmp_path, 0)
    assert [len(listing.splits[split]) for split in ("train", "val", "test")] == [34, 6, 4]
    assert "no validation split" in listing.notes[0]


def test_a_missing_test_is_val_with_a_warning(tmp_path):
    class_folders(tmp_path / "train", ("a", "b"), 5)
    class_folders(tmp_path / "val", ("a", "b"), 2)
    data = FolderData(str(tmp_path), image_size=8, batch_size=4, workers=0)
    with pytest.warns(UserWarning, match="val serves as test"):
        data.setup()
    assert data.dataset("test").names == data.dataset("val").names
    assert len(data.notes) == 1


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("path,label,class,split", ","),
        ("Split;Image Path;Class_Name;target", ";"),
        ("filename\tsubset\tlabel\tclass", "\t"),
    ],
)
def test_a_table_comes_first_whatever_its_dialect(header, delimiter, tmp_path):
    columns = header.split(delimiter)
    words = {"train": "Train", "val": "valid", "test": "test"}
    rows = []
    for label, title in (("10", "kite"), ("9", "gull")):
        for split, word in words.items():
            touch(tmp_path, f"train/{label}-{split}.png")
            cells = {"path": f"train\\{label}-{split}.png", "label": label, "class": title, "split": word}
            aliases = {
                "image path": "path",
                "filename": "path",
                "target": "label",
                "class_name": "class",
                "subset": "split",
            }
            rows.append([cells[aliases.get(column.lower(), column.lower())] for column in columns])
    write_csv(tmp_path, [columns, *rows], delimiter)
    listing = read_layout(tmp_path, 0)
    assert listing.class_names == ["gull", "kite"]  # in the order of the labels, 9 before 10
    assert [name for _, name, _ in listing.splits["val"]] == ["train/10-val.png", "train/9-val.png"]


def test_a_table_without_splits_is_split_by_class(tmp_path):
    class_folders(tmp_path / "all", ("a", "b"), 20)
    names = [f"all/{one}/{index}.png" for one in "ab" for index in range(20)]
    write_csv(tmp_path, [["path", "class"], *([name, name[4]] for name in names)])
    listing = read_layout(tmp_path, 0)
    assert [per_class(listing, split) for split in ("train", "val", "test")] == [
        {0: 14, 1: 14},
        {0: 3, 1: 3},
        {0: 3, 1: 3},
    ]
    assert "no split column" in listing.notes[0]


def test_labels_that_share_a_name_stay_apart(tmp_path):
    touch(tmp_path, *(f"{label}-{index}.png" for label in "134" for index in range(4)))
    titles = {"1": "crane", "3": "crane", "4": "duck"}
    write_csv(
        tmp_path,
        [
            ["path", "label", "class"],
            *([f"{one}-{index}.png", one, titles[one]] for one in titles for index in range(4)),
        ],
    )
    assert read_layout(tmp_path, 0).class_names == ["crane (1)", "crane (3)", "duck"]


def table(*rows):
    return lambda root: (touch(root, "a.png", "b.png", "c.png", "d.png"), write_csv(root, rows))


MISTAKES = {
    "missing": (lambda root: root.rmdir(), ["missing", "root"]),
    "file": (lambda root: (root.rmdir(), root.touch()), ["a file"]),
    "empty": (lambda root: None, ["no pictures", "labels.csv", ".png"]),
    "one class": (lambda root: class_folders(root, ("a",)), ["one class, 'a'", "at least 2"]),
    "two pictures": (lambda root: class_folders(root, ("a", "b"), 2), ["3 pictures"]),
    "empty class": (lambda root: (class_folders(root), (root / "empty").mkdir()), ["1 class folders", "empty"]),
    "no classes": (lambda root: touch(root, "train/1.png", "val/1.png"), ["no class folders"]),
    "strange class": (
        lambda root: (
            class_folders(root / "train", "ab", 2),
            class_folders(root / "val", "ac", 2),
            class_folders(root / "test", "a", 1),
        ),
        ["classes of val", "c", "train has a, b"],
    ),
    "two vals": (
        lambda root: [class_folders(root / split, "ab", 2) for split in ("train", "val", "valid")],
        ["more than one val folder"],
    ),
    "missing files": (
        table(["path", "label"], *([f"{one}.png", one] for one in "axyzuv")),
        ["5 of 6", "x.png, y.png, z.png and 2 more"],
    ),
    "strange split": (
        table(["path", "label", "split"], ["a.png", "1", "train"], ["b.png", "2", "trian"]),
        ["'trian'", "1 rows", "valid: dev, test"],
    ),
    "no path": (table(["picture", "label"], ["a.png", "1"]), ["'path'", "filename", "picture, label"]),
    "no label": (table(["path", "split"], ["a.png", "train"]), ["'label'", "path, split"]),
    "empty label": (table(["path", "label"], ["a.png", ""], ["b.png", "1"]), ["1 rows", "no label", "a.png"]),
    "only a header": (table(["path", "label"]), ["lists no pictures"]),
    "short row": (table(["path", "label"], ["a.png"], ["b.png", "1"]), ["1 rows", "fewer columns", "a.png"]),
    "twice": (table(["path", "label"], ["a.png", "1"], ["a.png", "2"]), ["1 pictures", "more than once", "a.png"]),
    "two titles": (
        table(["path", "label", "class"], ["a.png", "1", "x"], ["b.png", "1", "y"]),
        ["label '1'", "'x' and 'y'"],
    ),
    "no train": (table(["path", "label", "split"], ["a.png", "1", "val"]), ["no training pictures", "val"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_in_one_line(name, tmp_path):
    make, words = MISTAKES[name]
    root = tmp_path / "pictures"
    root.mkdir()
    make(root)
    with pytest.raises(UsageError) as caught:
        FolderData(str(root), workers=0).setup()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (SHARED / "data/sign-digits").is_dir(), reason=f"{SHARED}/data/sign-digits is absent")
def test_the_hand_signs_are_found_by_their_table(tmp_path):
    import tarfile

    with tarfile.open(SHARED / "data/sign-digits/sign-digits.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    listing = read_layout(tmp_path, 0)
    assert listing.class_names == [str(digit) for digit in range(10)]
    assert {split: len(own) for split, own in listing.splits.items()} == {"train": 1442, "val": 310, "test": 310}
