"""``visattn data check``: its screen, its status, its sheet."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visattn.cli.data import run

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from boxed_folders import COCO, VOC, draw


def check(root: Path, *more: str) -> int:
    return run(["check", str(root), "--out", str(root / "sheet/check.jpg"), *more])


def test_a_folder_with_notes_is_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    COCO["split folders"](tmp_path)
    assert check(tmp_path) == 0
    said = capsys.readouterr().out
    assert "COCO boxes in" in said
    assert "7 pictures, 2 classes" in said
    table = said[: said.index("Problems")]
    assert [line.split() for line in table.splitlines() if line.strip().startswith(("cat", "dog", "boxes"))] == [
        ["cat", "3", "1", "1"],
        ["dog", "2", "1", "1"],
        ["boxes", "5", "2", "2"],
    ]
    assert "Problems: none" in said
    assert "classes without any box are left out: pets" in said
    assert str(tmp_path / "sheet/check.jpg") in said


def test_a_folder_with_problems_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VOC["VOC's own"](tmp_path)
    for name in "abcd":
        (tmp_path / "JPEGImages" / f"{name}.png").write_bytes(b"no picture")
    assert check(tmp_path) == 1
    said = capsys.readouterr().out
    assert "Problems: 1" in said
    assert "and 1 more; --all names them" in said
    assert check(tmp_path, "--all") == 1
    assert "--all names them" not in capsys.readouterr().out


def test_the_sheet_shows_boxes_where_they_are(tmp_path: Path) -> None:
    COCO["split folders"](tmp_path)
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(np.full((30, 40, 3), 128, np.uint8)).save(path)
    check(tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "sheet/check.jpg").convert("RGB")).astype(int)
    blue = np.abs(pixels - (0x56, 0xB4, 0xE9)).sum(axis=2) < 60  # the second class, dog
    assert blue.sum() > 500
    orange = np.abs(pixels - (0xE6, 0x9F, 0x00)).sum(axis=2) < 60
    assert orange.sum() > 500


def test_class_folders_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        for index in range(20):
            draw(tmp_path / name / f"{name}{index}.png", 3 * index)
    assert check(tmp_path) == 0
    said = capsys.readouterr().out
    assert "pictures with a class each" in said
    assert (tmp_path / "sheet/check.jpg").is_file()
