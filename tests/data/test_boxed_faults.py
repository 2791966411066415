"""What is broken in a folder with boxes is named in one line; what can be repaired is, with a note."""

import json

import pytest
from boxed_folders import COCO, VOC, draw, voc_xml

from visattn.data import CocoData, VocData
from visattn.types import UsageError


def change(file, edit):
    """Edit a json file."""
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def boxes(*changes):
    def edit(content):
        for place, values in changes:
            content["annotations"][place] |= values

    return edit


STOPS = {
    "no json": (CocoData, lambda root, train: train.write_text('{"images": ['), ["broken files: 1", "no json"]),
    "empty json": (CocoData, lambda root, train: train.write_text(""), ["broken files: 1", "instances_train.json"]),
    "a list": (CocoData, lambda root, train: train.write_text("[]"), ["no list of images", "annotations, categories"]),
    "no boxes key": (
        CocoData, lambda root, train: change(train, lambda c: c.pop("annotations")), ["list of annotations"]
    ),
    "no pictures": (CocoData, lambda root, train: change(train, lambda c: c["images"].clear()), ["lists no pictures"]),
    "no file name": (
        CocoData, lambda root, train: change(train, lambda c: c["images"][1].pop("file_name")), ["without 'file_name'"]
    ),
    "no category": (
        CocoData, lambda root, train: change(train, lambda c: c["annotations"][1].pop("category_id")),
        ["without 'category_id'"],
    ),
    "text as an entry": (
        CocoData, lambda root, train: change(train, lambda c: c["images"].append("x")), ["broken files", "train.json"]
    ),
    "missing picture": (
        CocoData, lambda root, train: (root / "train/a.png").unlink(), ["missing pictures: 1: train/a.png"]
    ),
    "missing folder": (
        CocoData, lambda root, train: (root / "train").rename(root / "other"),
        ["missing pictures: 4", "and 1 more", "data check"],
    ),
    "unknown class": (
        CocoData, lambda root, train: change(train, boxes((0, {"category_id": 9}))),
        ["boxes of unknown classes: 1", "category 9 in train/a.png"],
    ),
    "two names": (
        CocoData, lambda root, train: change(train, lambda c: c["categories"][1].update(name="cow")),
        ["classes with two names", "category 3", "'cat' and 'cow'"],
    ),
    "two trains": (
        CocoData, lambda root, train: train.with_name("instances_train2014.json").write_text(train.read_text()),
        ["two files for train", "instances_train2014.json"],
    ),
    "no annotations": (
        CocoData, lambda root, train: [one.unlink() for one in train.parent.iterdir()],
        ["no COCO annotations", "instances_train.json", "_annotations.coco.json"],
    ),
    "no boxes": (CocoData, lambda root, train: change(train, lambda c: c["annotations"].clear()), ["no box at all"]),
    "no training file": (CocoData, lambda root, train: train.unlink(), ["no training pictures", "val"]),
    "broken xml": (VocData, lambda root, xml: xml.write_text("<annotation><object>"), ["broken files: 1", "a.xml"]),
    "empty xml": (VocData, lambda root, xml: xml.write_text(""), ["broken files: 1", "a.xml"]),
    "missing xml": (VocData, lambda root, xml: xml.unlink(), ["missing annotation files: 1: a.xml"]),
    "missing voc picture": (
        VocData, lambda root, xml: (root / "JPEGImages/a.png").unlink(), ["missing pictures: 1: a"]
    ),
    "no name": (
        VocData, lambda root, xml: xml.write_text(voc_xml([("", 1, 2, 3, 4)])), ["without a name in JPEGImages/a.png"]
    ),
    "no xml at all": (
        VocData, lambda root, xml: [one.unlink() for one in xml.parent.iterdir()], ["no VOC annotations", "JPEGImages"]
    ),
}  # fmt: skip


def write(kind, root):
    if kind is CocoData:
        COCO["split folders"](root)
        return root / "annotations/instances_train.json"
    VOC["VOC's own"](root)
    return root / "Annotations/a.xml"


@pytest.mark.parametrize("name", STOPS)
def test_what_stops_training_is_named_in_one_line(name, tmp_path):
    kind, damage, words = STOPS[name]
    damage(tmp_path, write(kind, tmp_path))
    with pytest.raises(UsageError) as caught:
        kind(str(tmp_path), workers=0).setup()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


REPAIRED = {  # what the json says of the first boxes, what is left of the two of picture a, and the note
    "no area": ([(0, {"bbox": [5, 5, 0, 9]})], [[20, 5, 39, 29]], "without area, left out: 1: train/a.png (5, 5, 5"),
    "negative": ([(0, {"bbox": [5, 5, -3, 9]})], [[20, 5, 39, 29]], "boxes without area, left out: 1"),
    "outside": ([(0, {"bbox": [50, 5, 9, 9]})], [[20, 5, 39, 29]], "boxes beyond their picture, cut at its edge: 1"),
    "beyond": ([(1, {"bbox": [-4, 5, 90, 90]})], [[1, 2, 11, 22], [0, 5, 40, 30]], "cut at its edge: 1"),
    "three numbers": ([(0, {"bbox": [1, 2, 3]})], [[20, 5, 39, 29]], "broken boxes, left out: 1: train/a.png (nan"),
    "words": ([(0, {"bbox": ["a", 2, 3, 4]})], [[20, 5, 39, 29]], "broken boxes, left out: 1"),
    "infinite": ([(0, {"bbox": [1, 2, float("inf"), 4]})], [[20, 5, 39, 29]], "broken boxes, left out: 1"),
    "none": ([(0, {"bbox": None})], [[20, 5, 39, 29]], "broken boxes, left out: 1"),
    "no listed picture": ([(0, {"image_id": 99})], [[20, 5, 39, 29]], "boxes of no listed picture, left out: 1"),
    "rounding": ([(1, {"bbox": [20, 5, 20.3, 9]})], [[1, 2, 11, 22], [20, 5, 40, 14]], None),
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRED)
def test_what_can_be_repaired_is_and_said(name, tmp_path):
    changes, left, note = REPAIRED[name]
    change(write(CocoData, tmp_path), boxes(*changes))
    data = CocoData(str(tmp_path), workers=0)
    assert data.dataset("train").boxes(0).tolist() == left
    faults = [one for one in data.notes if "boxes" in one]
    assert (note in faults[0] and len(faults) == 1) if note else faults == []


def test_a_picture_listed_twice_counts_once(tmp_path):
    train = write(CocoData, tmp_path)
    change(train, lambda content: content["images"].append({**content["images"][0], "id": 77}))
    data = CocoData(str(tmp_path), workers=0)
    assert len(data.dataset("train")) == 4
    assert "pictures listed twice in a split, the first entry counts: 1" in data.notes[-1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_of_another_size_than_stated_is_refused(workers, tmp_path):
    change(write(CocoData, tmp_path), lambda content: content["images"][2].update(width=80, height=60))
    data = CocoData(str(tmp_path), batch_size=4, workers=workers)
    with pytest.raises(UsageError, match=r"c.png has 40x30 pixels, but its annotation says 80x60") as caught:
        list(data.train_dataloader())
    assert "\n" not in str(caught.value)


def test_several_years_are_not_mixed_up(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        VOC["VOC's own"](tmp_path / year)
    with pytest.raises(UsageError, match="holds VOC2007, VOC2012; name one"):
        VocData(str(tmp_path), workers=0).setup()


def test_a_list_may_name_files_with_suffixes_or_carry_a_second_column(tmp_path):
    VOC["VOC's own"](tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a.png\nb  1\n\nc -1\n")
    assert VocData(str(tmp_path), workers=0).dataset("train").image_ids == ["a", "b", "c"]


def test_other_pictures_in_the_folder_change_nothing(tmp_path):
    write(CocoData, tmp_path)
    draw(tmp_path / "train/unlisted.png")
    assert len(CocoData(str(tmp_path), workers=0).dataset("train")) == 4
