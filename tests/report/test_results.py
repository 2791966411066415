import json

import pytest

from visattn.report.results import read_comparison
from visattn.types import UsageError


def test_a_whole_comparison_is_read(build):
    comparison = read_comparison(build())
    assert [arm.label for arm in comparison.blocks] == ["eca", "cbam"]
    assert len(comparison.cells) == 9
    assert comparison.unfinished == ()
    cell = comparison.cells["cbam", 1]
    stored = json.loads((comparison.folder / "cbam/seed1/result.json").read_text())
    assert cell.score == stored["metrics"]["test/top1"]
    assert len(cell.curve) == 12
    assert comparison.cost.arms["eca"].latency_ratio == pytest.approx(1.08)
    assert len(comparison.gallery.rows) == 5


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has begun, has no result yet"),
        ('{"metrics": {"test/to', "cannot be read as JSON"),
        ("[]", "must be a JSON object, got list"),
        ('{"metrics": {"test/loss": 1.0}}', "has no finite 'test/top1'; it has: test/loss"),
        ('{"metrics": {"test/top1": NaN}}', "has no finite 'test/top1'"),
        ('{"metrics": {"test/top1": 0.5}, "parameters": "many"}', "'parameters' has the wrong type, str"),
    ],
)
def test_one_bad_cell_is_named_and_the_others_stand(build, content, why):
    folder = build()
    result = folder / "eca/seed1/result.json"
    result.unlink() if content is None else result.write_text(content)
    comparison = read_comparison(folder)
    assert [(cell.arm, cell.seed) for cell in comparison.unfinished] == [("eca", 1)]
    assert why in comparison.unfinished[0].why
    assert len(comparison.cells) == 8


def test_cost_and_maps_may_be_missing(build):
    comparison = read_comparison(build(extras=False, missing=(("cbam", 2),)))
    assert comparison.cost is None
    assert comparison.gallery is None
    assert comparison.unfinished[0].why == "has not begun"


def test_a_torn_curve_keeps_its_whole_lines(build):
    folder = build()
    path = folder / "eca/seed0/metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n3,93,1.2")
    assert [epoch for epoch, _ in read_comparison(folder).cells["eca", 0].curve] == [0, 1, 2]


def test_maps_outside_the_folder_are_not_read(build, tmp_path):
    folder = build()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes((folder / "maps/17-input.jpg").read_bytes())
    maps = json.loads((folder / "maps.json").read_text())
    maps["pictures"][0]["file"], maps["pictures"][1]["file"] = "../secret.jpg", str(secret)
    (folder / "maps.json").write_text(json.dumps(maps))
    assert [picture.file for picture in read_comparison(folder).gallery.pictures[:2]] == [None, None]


def _edited(folder, **changes):
    path = folder / "compare.json"
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": None}, "lacks the key 'arms'; it has: title, "),
        ({"seeds": ["0"]}, "'seeds' must be a list of integers"),
        ({"baseline": "nonn"}, "unknown baseline 'nonn'; did you mean 'none'? valid: none, eca, cbam"),
        ({"title": 3}, "'title' has the wrong type, int"),
    ],
)
def test_a_damaged_comparison_is_refused_in_one_line(build, changes, message):
    folder = build()
    _edited(folder, **changes)
    with pytest.raises(UsageError) as error:
        read_comparison(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_comparison_is_refused(build, tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        read_comparison(tmp_path / "nowhere")
    folder = build()
    with pytest.raises(UsageError, match=r"holds no compare\.json; below it: cmp"):
        read_comparison(tmp_path)
    with pytest.raises(UsageError, match="`visattn compare run --out FOLDER` writes one"):
        read_comparison(folder / "maps")
