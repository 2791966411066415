"""``visattn sites``: what it prints is what ``attend`` returns."""

from __future__ import annotations

import pytest

import visattn
from visattn.cli.sites import run
from visattn.types import UsageError


def test_lists_places_and_the_hosts_own_attention(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mobilenetv3_small_050"]) == 0
    text = capsys.readouterr().out
    listed = {line.split()[0] for line in text.splitlines() if line}
    found = visattn.sites(visattn.create_model("mobilenetv3_small_050"))
    assert {site.name for site in found} <= listed
    assert "9 SqueezeExcite" in text
    assert "{native: none}" in text


def test_explains_where_a_block_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["resnet18", "--block", "simam"]) == 0
    text = capsys.readouterr().out
    assert "simam at paper: authors' networks: after conv2, before bn2; init identity" in text
    sites = visattn.attend(visattn.create_model("resnet18"), "simam")
    rows = [line.split() for line in text.splitlines() if line.startswith("layer")]
    told = [
        [site.name, str(site.stage), str(2 ** (site.stage + 1)), str(site.channels), "x".join(map(str, site.size)), "1"]
        for site in sites
        if site.stage is not None
    ]
    assert rows == told
    assert "8 sites, 8 parameters added to 11,689,512 (+0.00 %)" in text


def test_previews_a_whole_spec(capsys: pytest.CaptureFixture[str]) -> None:
    spec = "[{native: none}, {block: se, at: stages, stages: [4], reduction: 8}, {pool: additive}]"
    assert run(["mobilenetv3_small_050", "--attention", spec]) == 0
    text = capsys.readouterr().out
    for part in ("no SqueezeExcite at native", "se at stages (the last module of each stage)", "additive at pool"):
        assert part in text
    assert "11 sites" in text
    assert "of the host's own attention taken out" in text


def test_no_attention(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test_resnet", "--attention", "none"]) == 0
    assert capsys.readouterr().out.endswith("no attention\n")


def test_says_why_there_is_no_place() -> None:
    with pytest.raises(
        UsageError, match=r"no word finds a place in test_vit: .*sequences \(N, L, C\).*patch_embed.proj"
    ):
        run(["test_vit"])
