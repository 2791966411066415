import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from visattn.report import write_report
from visattn.report.html import page as page_of
from visattn.report.markdown import markdown
from visattn.report.results import read_comparison
from visattn.report.table import build as tabulate
from visattn.report.write import flat

VOID = {"meta", "img", "br", "wbr"}
HOSTILE = "<script>alert(\"x\")</script> & 'y' | `z` $a$ _b_"


class Page(HTMLParser):
    """Collects tags, attributes, table rows and text, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += ("\n" if self.open[-1] == "small" else "") + data

    def row(self, label, table=0):
        return [row for row in self.rows if row and row[0] == label][table]


def read(folder):
    return Page(page_of(tabulate(read_comparison(folder)), ()))  # most tests need no plots, which take the time


def written(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def stored(folder, label, seeds=range(3)):
    return np.array(
        [json.loads((folder / label / f"seed{seed}/result.json").read_text())["metrics"]["test/top1"] for seed in seeds]
    )


def numbers(text):
    return [float(item) for item in re.findall(r"[-+]?\d+(?:\.\d+)?", text.replace("\N{MINUS SIGN}", "-"))]


def test_the_table_says_what_scipy_says(build):
    folder = build()
    page = read(folder)
    base, cbam = stored(folder, "none"), stored(folder, "cbam")
    row = page.row("cbam")
    test = stats.ttest_rel(cbam, base)
    low, high = stats.ttest_1samp(cbam, 0).confidence_interval(0.95)
    assert numbers(row[2])[:2] == pytest.approx([100 * cbam.mean(), 50 * (high - low)], abs=0.051)
    ends = test.confidence_interval(0.95)
    assert numbers(row[3]) == pytest.approx([100 * (cbam - base).mean(), 100 * ends.low, 100 * ends.high], abs=0.051)
    assert numbers(row[5]) == pytest.approx([test.pvalue], rel=0.05)
    assert row[6:] == ["0.25", "0.5", "undecided"]
    cost = page.row("cbam", table=1)
    assert cost[1] == "178 k\n+1.4 %"
    assert cost[3].startswith("1.16\N{MULTIPLICATION SIGN}\n1.14 to 1.19, ")
    assert cost[5].startswith(f"{32 / 0.061 / 1.24:.0f}\n")


def test_three_seeds_cannot_decide(build):
    text = write_report(build()).read_text(encoding="utf-8")
    sentence = "3 seeds cannot decide: the smallest p a sign-flip test can reach is 0.25."
    assert f'<p class="verdict">{sentence}</p>' in text
    assert "takes at least 7 seeds" in text


def test_eight_seeds_decide(build):
    folder = build(effects={"none": 0.0, "eca": 0.0, "cbam": 0.05}, seeds=tuple(range(8)))
    page = read(folder)
    assert page.row("cbam")[-1] == "better"
    assert page.row("eca")[-1] == "undecided"
    gain = 100 * (stored(folder, "cbam", range(8)) - stored(folder, "none", range(8))).mean()
    assert f"cbam is better than none by {gain:.1f} points; eca is undecided." in page.text
    assert flat(tabulate(read_comparison(folder)))["decided"] is True


def test_one_seed_has_no_interval(build):
    page = read(build(seeds=(0,)))
    assert "1 seed cannot decide: the smallest p a sign-flip test can reach is 1." in page.text
    assert "\N{PLUS-MINUS SIGN}" not in page.row("cbam")[2]
    assert not any("nan" in cell for row in page.rows for cell in row)


def test_unfinished_cells_are_named_and_left_out(build):
    folder = build(missing=(("cbam", 2), ("eca", 0), ("eca", 1), ("eca", 2)))
    page = written(folder)
    notice = (
        "4 of 9 cells unfinished: eca seed 0, eca seed 1, eca seed 2, cbam seed 2. The figures below leave them out."
    )
    assert notice in page.text
    assert "cbam seed 2: has not begun" in page.text
    assert page.row("cbam")[2].endswith("2 of 3 seeds")
    assert page.row("eca")[2] == "\N{EN DASH}\n0 of 3 seeds"
    assert "eca seed 1: has not begun" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ([("none", seed) for seed in range(3)], "the baseline 'none' has no finished cell"),
        ([(arm, seed) for arm in ("eca", "cbam") for seed in range(3)], "no block shares a finished seed"),
        ([(arm, seed) for arm in ("none", "eca", "cbam") for seed in range(3)], "has no finished cell"),
    ],
)
def test_a_comparison_that_has_hardly_begun_has_a_report(build, missing, sentence):
    page = written(build(missing=tuple(missing), extras=False))
    assert any(sentence in text for text in page.text)


def test_a_baseline_alone_has_a_report(build):
    assert "Nothing to compare: the baseline has run alone." in read(build(effects={"none": 0.0})).text


def test_hostile_words_stay_words(build):
    label = HOSTILE.replace("/", "|")  # a label is a folder's name
    folder = build(effects={"none": 0.0, label: 0.01}, classes=(HOSTILE, "\u6570", '"><img src=x onerror=y>'))
    for name in ("compare.json", "maps.json"):
        document = json.loads((folder / name).read_text())
        document |= {"title": HOSTILE, "command": HOSTILE, "host": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        (folder / name).write_text(json.dumps(document))
    page = written(folder)
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert page.row(label)
    assert HOSTILE in page.text
    fenced = re.compile(r"^(`{3,})\n.*?\n\1$", flags=re.MULTILINE | re.DOTALL)
    text = fenced.sub("", (folder / "report.md").read_text(encoding="utf-8"))
    assert "<script" not in text
    assert "<img" not in text


def test_the_page_needs_nothing_from_outside(build):
    text = write_report(build()).read_text(encoding="utf-8")
    page = Page(text)
    assert "http" not in text.replace("http-equiv", "")
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert len(references) > 30
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in references)
    assert all(value.startswith("url(#") for value in re.findall(r"url\([^)]*\)", text))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes


def test_names_inside_the_plots_are_unique_and_known(build):
    page = written(build())
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in page.attributes if name in ("href", "xlink:href")}
    assert used <= set(ids)


@pytest.mark.parametrize("what", ["host_weights", "order"])
def test_a_broken_pairing_is_the_verdict(build, what):
    folder = build(effects={"none": 0.0, "cbam": 0.05}, seeds=tuple(range(8)))
    assert read(folder).row("cbam")[-1] == "better"
    assert not any("NOT equal" in text for text in read(folder).text)
    path = folder / "cbam/seed5/result.json"
    result = json.loads(path.read_text())
    result["pairing"][what] = "ffff"
    path.write_text(json.dumps(result))
    page = read(folder)
    assert "Not a paired comparison: the arms of a seed differ in more than attention." in page.text
    assert any(
        "NOT equal: seed 5 (none 5555555555" in text or "NOT equal: seed 5 (none 66" in text for text in page.text
    )
    assert page.row("cbam")[-1] == "undecided"
    assert not any("is better" in text for text in page.text)
    paired = flat(tabulate(read_comparison(folder)))["paired"]
    assert [name for name, equal in paired.items() if equal is False] == [
        {"host_weights": "host weights", "order": "data order"}[what]
    ]


def test_the_pictures_are_all_there_and_a_missing_one_is_named(build):
    folder = build()
    assert read(folder).tags.count("img") == 6 * (1 + 3 + 2)
    (folder / "maps/17-row0.jpg").unlink()
    (folder / "maps/42-row0.jpg").write_text("<svg onload=alert(1)>")
    page = read(folder)
    assert page.tags.count("img") == 34
    assert page.text.count("missing") == 2


def test_markdown_holds_the_same_figures(build):
    folder = build()
    page, lines = read(folder), markdown(tabulate(read_comparison(folder))).splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    heads = [index for index, row in enumerate(tables) if set("".join(row)) <= {"-", ":"}]
    widths = {len(tables[index]) for index in heads}
    assert all(len(row) in widths for row in tables)
    row = next(row for row in tables if row[0] == "cbam")
    assert numbers(row[3]) == numbers(page.row("cbam")[2])[:2]
    assert numbers(row[5]) == numbers(page.row("cbam")[3])
    assert row[7:] == page.row("cbam")[5:8]
    assert "**3 seeds cannot decide: the smallest p a sign-flip test can reach is 0.25.**" in lines


def test_the_flat_files_hold_every_cell_and_no_nan(build):
    folder = build(seeds=(0,), extras=False)
    write_report(folder)
    with (folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["arm"] for line in lines] == ["none", "eca", "cbam"]
    assert float(lines[2]["test/top1"]) == stored(folder, "cbam", [0])[0]
    flat = json.loads((folder / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert flat["arms"][1]["p_t"] is None
    assert math.isfinite(flat["arms"][1]["difference"])


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_behind(build):
    folder = build()
    first = write_report(folder).read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    assert write_report(folder).read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_failed_write_keeps_the_old_report(build, monkeypatch):
    folder = build()
    old = write_report(folder).read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == names
