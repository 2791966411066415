"""``visattn blocks``: the table and the cards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from visattn.attention import blocks
from visattn.attention._facts import facts, figures
from visattn.cli.blocks import card, cells, run, short, table

SOME = {"form": "gate", "maps": {"channel": "channel"}, "parameters": 8464, "macs": 8192, "training": 9.94}
PLACES = {"resnet": {"at": "residual", "source": "section 3", "stages": [2, 3]}}


def test_every_block_stands_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1 : 1 + len(blocks())]} == set(blocks())


@pytest.mark.parametrize("name", blocks())
def test_cards_hold_what_a_user_needs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name]) == 0
    text = capsys.readouterr().out
    for heading in ("Shapes:", "Cost:", "Args:", "Example:", "Measured:", "Where the paper puts it:", "References:"):
        assert heading in text
    assert "``" not in text
    known = facts(name)
    assert known.paper != "-", 'References begin with: Author et al., "Title", venue year, https://...'
    assert known.link
    assert known.family != "-"
    assert known.form != "-"


def test_a_block_without_figures_prints_dashes() -> None:
    bare = replace(facts("se"), figures={})
    assert cells(bare) == ("se", "channel", "-", "-", "-", "-", "Hu et al. 2018", "-")
    assert "nothing yet: visattn bench blocks" in card(bare)


def test_figures_are_shown() -> None:
    known = replace(facts("se"), figures={**SOME, "places": PLACES})
    wanted = ("se", "channel", "channel", "8,464", "8.19k", "9.9", "Hu et al. 2018", "resnet: residual, stages 2, 3")
    assert cells(known) == wanted


def test_a_narrow_terminal_cuts_lines() -> None:
    lines = table([facts(name) for name in blocks()], 60).splitlines()
    rows = lines[: 1 + len(blocks())]
    assert max(map(len, rows)) <= 60


@pytest.mark.parametrize(("count", "text"), [(None, "-"), (0, "0"), (999, "999"), (93216, "93.2k"), (2.5e9, "2.5G")])
def test_short_counts(count: float | None, text: str) -> None:
    assert short(count) == text


def test_figures_name_their_machine() -> None:
    found = figures()
    assert {"torch", "device", "threads", "batch", "channels", "side", "rounds", "host", "command"} <= set(found)
