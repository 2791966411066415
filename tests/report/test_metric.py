"""A comparison carries its metric: the report speaks of what was measured, and of the test pictures where drawn."""

import csv
import json
from pathlib import Path

import pytest

from visattn.report import write_report
from visattn.report.markdown import markdown
from visattn.report.plots import draw
from visattn.report.results import read_comparison
from visattn.report.table import build as tabulate
from visattn.types import UsageError

AP = {"key": "AP", "word": "AP", "name": "average precision"}


def of_boxes(folder: Path) -> Path:
    """Turn a folder of accuracies into one of average precision."""
    for file in folder.glob("*/seed*/result.json"):
        result = json.loads(file.read_text())
        score = result["metrics"].pop("test/top1")
        file.write_text(json.dumps({**result, "metric": AP, "metrics": {"test/AP": score, "test/AP50": 0.9}}))
    for file in folder.glob("*/seed*/metrics.csv"):
        file.write_text(file.read_text().replace("val/top1", "val/AP").replace("val/top5", "val/AP50"))
    arms = {"eca": {"low": -0.0121, "high": 0.0234}, "cbam": {"low": 0.0052, "high": 0.03}}
    (folder / "pictures.json").write_text(json.dumps({"pictures": 72, "draws": 1000, "arms": arms}))
    return folder


def test_the_report_speaks_of_its_metric(build) -> None:
    folder = of_boxes(build())
    page = write_report(folder).read_text(encoding="utf-8")
    text = (folder / "report.md").read_text(encoding="utf-8")
    for shown in (page, text):
        assert "top-1" not in shown.lower()
        assert "ccuracy" not in shown
        assert "Average precision" in shown
        assert "\N{MINUS SIGN}1.2 to +2.3" in shown
        assert "1,000 draws of 72 test pictures" in shown
    assert "| AP % |" in text
    record = json.loads((folder / "results.json").read_text())
    assert record["metric"] == "AP"
    arms = {arm["arm"]: arm for arm in record["arms"]}
    with (folder / "results.csv").open() as file:
        scores = [float(row["test/AP"]) for row in csv.DictReader(file) if row["arm"] == "eca"]
    assert arms["eca"]["AP"] == pytest.approx(sum(scores) / len(scores))
    assert arms["eca"]["difference_pictures_low"] == -0.0121
    assert "difference_pictures_low" not in arms["none"]
    assert "curves" in {plot.name for plot in draw(tabulate(read_comparison(folder)))}


def test_folders_that_do_not_say_are_of_accuracy(build) -> None:
    report = tabulate(read_comparison(build()))
    assert report.comparison.metric.key == "top1"
    assert "| top-1 % |" in markdown(report)
    assert "over pictures" not in markdown(report)


def test_a_cell_of_another_metric_is_unfinished(build) -> None:
    folder = of_boxes(build())
    file = folder / "eca/seed1/result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "metrics": {"test/top1": 0.5}}))
    (cell,) = read_comparison(folder).unfinished
    assert (cell.arm, cell.seed) == ("eca", 1)
    assert "has no finite 'test/AP'" in cell.why


def test_damaged_draws_are_named(build) -> None:
    folder = of_boxes(build())
    (folder / "pictures.json").write_text("[]")
    with pytest.raises(UsageError, match=r"pictures\.json must be a JSON object"):
        read_comparison(folder)
