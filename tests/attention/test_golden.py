"""Blocks against what the authors' own code gave, as ``tests/golden/record.py`` recorded it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from visattn.attention import block, block_class

FILES = sorted((Path(__file__).parents[1] / "golden").glob("*.safetensors"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_authors_outputs(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        facts = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    keywords = json.loads(facts["keywords"])
    weights = {key.removeprefix("weights."): value for key, value in tensors.items() if key.startswith("weights.")}
    x = tensors["x"]
    if weights:
        ours = block_class(facts["block"]).from_reference(weights, **keywords)
    else:
        ours = block(facts["block"], x.shape[1], **keywords)
    torch.testing.assert_close(ours.eval()(x), tensors["y"], rtol=1e-5, atol=1e-5)
    if "y_training" in tensors:
        torch.testing.assert_close(ours.train()(x), tensors["y_training"], rtol=1e-5, atol=1e-5)


def test_every_record_names_its_source() -> None:
    assert FILES
    for file in FILES:
        with safe_open(file, framework="pt") as opened:
            facts = opened.metadata()
        assert {"block", "keywords", "repository", "commit", "path", "licence", "torch"} <= set(facts), file.name
        assert len(facts["commit"]) == 40
        assert file.stat().st_size < 200_000
