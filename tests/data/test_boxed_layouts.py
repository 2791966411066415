"""A folder's layout is found out, whatever its ids, names and lists; the same content gives the same boxes."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from boxed_folders import COCO, CONTENT, LISTS, VOC, coco, coco_json, draw, voc, voc_xml, write_json

from visattn.data import CocoData, VocData
from visattn.types import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"
MAKERS = {**{f"coco: {name}": (CocoData, make) for name, make in COCO.items()},
          **{f"voc: {name}": (VocData, make) for name, make in VOC.items()}}  # fmt: skip


def content(data, split):
    """What a data module says of a split, in the form of CONTENT."""
    pictures = data.dataset(split)
    return {
        Path(name).stem: [
            (data.class_names[label], *box)
            for label, box in zip(pictures.labels_of(i).tolist(), pictures.boxes(i).tolist(), strict=True)
        ]
        for i, name in enumerate(pictures.names)
    }


@pytest.mark.parametrize("name", MAKERS)
def test_every_layout_holds_the_same(name, tmp_path):
    kind, make = MAKERS[name]
    make(tmp_path)
    data = kind(str(tmp_path), workers=0)
    assert data.class_names == ["cat", "dog"]
    whole = {name: boxes for split in CONTENT for name, boxes in CONTENT[split].items()}
    for split, wanted in CONTENT.items():
        assert content(data, split) == wanted
        pictures = data.dataset(split)
        for i, path in enumerate(pictures.paths):
            assert path == tmp_path / pictures.names[i]
            assert pictures.picture(i).shape == (30, 40, 3)
            assert pictures.boxes(i).dtype == np.float32
            assert pictures.boxes(i).shape == (len(whole[path.stem]), 4)


@pytest.mark.parametrize(
    ("kind", "make"), [(CocoData, lambda root: one_json(root)), (VocData, lambda root: voc(root, None))]
)
def test_a_folder_without_splits_is_split_by_name_and_seed(kind, make, tmp_path):
    make(tmp_path)
    data = kind(str(tmp_path), workers=0)
    names = {split: set(content(data, split)) for split in CONTENT}
    assert set.union(*names.values()) == {name for own in CONTENT.values() for name in own}
    assert [len(names[split]) for split in CONTENT] == [5, 1, 1]
    assert any("15%" in note for note in data.notes)
    other = {split: set(content(kind(str(tmp_path), workers=0, data_seed=3), split)) for split in CONTENT}
    assert other != names


def one_json(root):
    whole = {name: boxes for own in CONTENT.values() for name, boxes in own.items()}
    for name in whole:
        draw(root / "images" / f"{name}.png")
    write_json(root / "annotations/instances_default.json", coco_json(whole))


def test_trainval_alone_is_split(tmp_path):
    voc(tmp_path, {"trainval": ["train", "val"], "test": ["test"]})
    data = VocData(str(tmp_path), workers=0)
    train, val = content(data, "train"), content(data, "val")
    assert train | val == CONTENT["train"] | CONTENT["val"]
    assert len(val) == 1
    assert content(data, "test") == CONTENT["test"]
    assert "trainval" in data.notes[0]


def test_a_missing_test_is_val_with_a_warning(tmp_path):
    coco(tmp_path, {"train": "train", "val": "valid"}, "{}", "{}/_annotations.coco.json")
    data = CocoData(str(tmp_path), workers=0)
    with pytest.warns(UserWarning, match="val serves as test"):
        data.setup()
    assert data.dataset("test").names == data.dataset("val").names


def test_names_may_hold_the_folder(tmp_path):
    coco(tmp_path, {"train": "train"}, "{}", "annotations/instances_{}.json", "train/")
    data = CocoData(str(tmp_path), workers=0)
    with pytest.warns(UserWarning, match="val serves as test"):
        found = {split: content(data, split) for split in CONTENT}
    assert found["train"] | found["val"] == CONTENT["train"]
    assert found["test"] == found["val"]


def test_results_can_be_written_back(tmp_path):
    COCO["COCO's own"](tmp_path)
    data = CocoData(str(tmp_path), workers=0)
    assert data.category_ids == [3, 7]  # 0 has no box; there are gaps
    assert data.dataset("val").image_ids == [0, 2]
    notes = " ".join(data.notes)
    assert "start at 0" in notes
    assert "gaps: 1, 2, 4, 5, 6" in notes
    assert "left out: pets" in notes
    VOC["VOC's own"](tmp_path / "voc")
    voc_data = VocData(str(tmp_path / "voc"), workers=0)
    assert voc_data.category_ids == [1, 2]
    assert voc_data.dataset("val").image_ids == ["e", "f"]


def test_captions_and_keypoints_beside_are_not_read(tmp_path):
    COCO["COCO's own"](tmp_path)
    for name in ("captions_train2017", "person_keypoints_train2017", "image_info_test-dev2017"):
        (tmp_path / "annotations" / f"{name}.json").write_text("not json")
    assert CocoData(str(tmp_path), workers=0).class_names == ["cat", "dog"]


def test_crowds_are_for_evaluation_alone(tmp_path):
    COCO["split folders"](tmp_path)
    VOC["VOC's own"](tmp_path / "voc")
    for file in (tmp_path / "annotations").iterdir():
        found = json.loads(file.read_text())
        found["annotations"][0]["iscrowd"] = 1
        file.write_text(json.dumps(found))
    for file in (tmp_path / "voc/Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    for data in (CocoData(str(tmp_path), 4, 0, 0, 0, []), VocData(str(tmp_path / "voc"), 4, 0, 0, 0, [])):
        seen = {int(i): t for b in data.train_dataloader() for i, t in zip(b.indices, b.targets, strict=True)}
        assert [len(seen[i]["labels"]) for i in range(2)] == [1, 0 if isinstance(data, VocData) else 1]
        assert set(seen[0]) == {"boxes", "labels"}
        kept = next(iter(data.val_dataloader())).targets[0]
        assert kept["iscrowd"].tolist() == [1]
        assert kept["area"].tolist() == [100 if isinstance(data, VocData) else 50]


def test_a_picture_size_that_is_not_stated_is_read(tmp_path):
    voc(tmp_path, LISTS)
    (tmp_path / "Annotations/a.xml").write_text(voc_xml([("cat", 1, 2, 300, 22)], "<size><width>0</width></size>"))
    data = VocData(str(tmp_path), workers=0)
    assert data.dataset("train").boxes(0).tolist() == [[1, 2, 40, 22]]
    assert "boxes beyond their picture, cut at its edge: 1" in data.notes[-1]


def test_classes_that_share_a_name_stay_apart(tmp_path):
    COCO["split folders"](tmp_path)
    for file in (tmp_path / "annotations").iterdir():
        file.write_text(file.read_text().replace('"name": "dog"', '"name": "cat"'))
    assert CocoData(str(tmp_path), workers=0).class_names == ["cat (3)", "cat (7)"]


@pytest.mark.parametrize("root", ["nowhere", "file"])
def test_a_root_that_is_no_folder_is_named(root, tmp_path):
    (tmp_path / "file").touch()
    for kind in (CocoData, VocData):
        with pytest.raises(UsageError, match=r"root must be a folder.*(missing|a file)"):
            kind(str(tmp_path / root)).setup()


def unpack(name, root):
    archive = SHARED / "data" / name / f"{name}.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is absent")
    with tarfile.open(archive) as file:
        file.extractall(root, filter="data")


def totals(data):
    sets = [data.dataset(split) for split in ("train", "val", "test")]
    boxes = Counter(data.class_names[label] for one in sets for i in range(len(one)) for label in one.labels_of(i))
    return [len(one) for one in sets], boxes


def test_blood_cells_as_their_readme_counts_them(tmp_path):
    unpack("bccd-voc", tmp_path)
    data = VocData(str(tmp_path), workers=0)
    sizes, boxes = totals(data)
    assert sizes == [205, 87, 72]
    assert boxes == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}  # two boxes have no area
    assert data.notes[-1].startswith("boxes without area, left out: 2: ")
    assert all((one.boxes[:, 2:] > one.boxes[:, :2]).all() for one in data.dataset("train").objects)


def test_chess_pieces_as_their_readme_counts_them(tmp_path):
    unpack("chess-coco", tmp_path)
    data = CocoData(str(tmp_path), workers=0)
    sizes, boxes = totals(data)
    assert sizes == [202, 58, 29]
    assert sum(boxes.values()) == 2108 + 386 + 376
    assert data.category_ids == list(range(1, 14))  # of 0 to 13: the umbrella class has no box
    train = Counter(data.class_names[k] for one in data.dataset("train").objects for k in one.labels)
    assert (train["black-pawn"], train["black-queen"], train["bishop"]) == (496, 62, 1)
    assert sum(not len(one.labels) for one in data.dataset("test").objects) == 1
