"""What blocks cost by themselves, and that the shipped figures are those of the code."""

from __future__ import annotations

import pytest
import torch

from visattn.attention import block, blocks
from visattn.attention._facts import figures
from visattn.bench import clock
from visattn.bench.blocks import describe, measure_blocks
from visattn.bench.cost import count_macs

SHIPPED = sorted(set(figures()["blocks"]) & set(blocks()))


def test_a_heavier_block_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "SHORTEST", 0.0)
    shares: list[float] = []
    before = torch.get_rng_state()
    found = measure_blocks(["eca", "bam"], batch=2, channels=32, side=16, rounds=3, progress=shares.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert shares[-1] == 1
    eca, bam = found["blocks"]["eca"], found["blocks"]["bam"]
    assert bam["training"] > eca["training"] > 0
    assert bam["macs"] > eca["macs"] > 0
    assert bam["saved"] > eca["saved"] >= 1
    assert (eca["form"], eca["family"], bam["family"]) == ("gate", "channel", "mixed")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_figures_are_those_of_the_code(name: str) -> None:
    found = figures()
    row = found["blocks"][name]
    module = block(name, found["channels"])
    stale = "stale visattn/attention/figures.json: make figures"
    wanted = describe(module)
    for places in (wanted["places"], row["places"]):
        for place in places.values():
            place["stages"] = list(place["stages"] or [])
    assert {key: row[key] for key in wanted} == wanted, stale
    assert row["macs"] == count_macs(module, torch.zeros(1, found["channels"], found["side"], found["side"])), stale
