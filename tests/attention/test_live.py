"""Blocks against timm's, torchvision's and others' own modules, with the same weights through ``from_reference``."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import Live, features, perturbed
from table import LIVE

from visattn.attention import block_class
from visattn.types import UsageError


@pytest.mark.parametrize("live", LIVE, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_same_weights_same_output(live: Live, training: bool) -> None:
    torch.manual_seed(0)
    theirs = perturbed(live.build()).train(training)
    ours = block_class(live.name).from_reference(theirs.state_dict(), **live.keywords).train(training)
    x = features(3, live.channels, 7, 5)
    wanted = live.output(copy.deepcopy(theirs)(x.clone()))
    torch.testing.assert_close(ours(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("live", LIVE, ids=str)
def test_weights_of_something_else_are_refused(live: Live) -> None:
    state = {**live.build().state_dict(), "other.weight": torch.zeros(3)}
    with pytest.raises(UsageError, match=r"unknown weights other\.weight; valid: ") as caught:
        block_class(live.name).from_reference(state, **live.keywords)
    assert "\n" not in str(caught.value)
