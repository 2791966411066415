import io
import re

import matplotlib as mpl
import pytest
from PIL import Image

from visattn.report.canvas import ARMS, MARKERS, ROLES, dress, to_inline, to_png, to_svg
from visattn.report.plots import draw, per_class_differences, shown_classes
from visattn.report.results import read_comparison
from visattn.report.style import CSS
from visattn.report.table import build as tabulate


def report_of(folder):
    return tabulate(read_comparison(folder))


def test_every_plot_is_drawn_from_a_whole_comparison(build):
    before = dict(mpl.rcParams)
    drawn = draw(report_of(build()))
    assert [plot.name for plot in drawn] == ["scores", "gains", "latency", "curves", "training", "per_class"]
    for plot in drawn:
        assert to_svg(plot.figure, plot.name) == to_svg(plot.figure, plot.name)
        assert to_svg(plot.figure, plot.name).rstrip().endswith(b"</svg>")
        assert Image.open(io.BytesIO(to_png(plot.figure, 50))).width == 210
    assert dict(mpl.rcParams) == before


def test_what_was_not_measured_is_not_drawn(build):
    folder = build(extras=False, missing=tuple((arm, seed) for arm in ("eca", "cbam") for seed in range(3)))
    assert [plot.name for plot in draw(report_of(folder))] == ["scores", "curves"]


def test_dots_stand_where_the_scores_are(build):
    report = report_of(build())
    axes = draw(report)[0].figure.axes[0]
    found = sorted(
        float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 4.5
    )
    expected = sorted(100 * cell.score for cell in report.comparison.cells.values())
    assert found == pytest.approx(expected)
    low, high = axes.get_xlim()
    assert low < found[0] < found[-1] < high


def test_colours_become_the_pages_own(build):
    # a colour left in the drawing would not follow the dark dress
    for plot in draw(report_of(build())):
        inline = to_inline(plot.figure, plot.name)
        assert set(re.findall(r"#[0-9a-f]{6}\b", inline)) == set()
        assert set(re.findall(r"var\((--[\w-]+)\)", inline)) <= set(ROLES.values())
    for role in ROLES.values():
        assert CSS.count(f"{role}: #") == 2, "light and dark"


def test_arms_are_told_apart_by_colour_and_marker():
    pairs = [dress(index, is_baseline=False) for index in range(len(ARMS) * len(MARKERS))]
    assert len(set(pairs)) == len(pairs)
    assert dress(0, is_baseline=True) not in pairs


def test_names_are_drawn_as_they_are(build):
    folder = build(effects={"none": 0.0, "$x$ \u6570": 0.01})
    assert "$x$ \u6570" in to_svg(draw(report_of(folder))[0].figure, "scores").decode()


def test_many_classes_show_those_that_differ_most(build):
    report = report_of(build(classes=tuple(f"class {index}" for index in range(40))))
    found = per_class_differences(report)
    shown = shown_classes(found)
    assert len(shown) == 14
    size = {name: max(abs(sum(found[arm][name]) / 3) for arm in found) for name in found["eca"]}
    assert min(size[name] for name in shown) >= max(value for name, value in size.items() if name not in shown)
    cells = report.comparison.cells
    expected = [cells["eca", seed].per_class["class 3"] - cells["none", seed].per_class["class 3"] for seed in range(3)]
    assert found["eca"]["class 3"] == pytest.approx(expected)
