"""Any CNN, any block, four detectors: the same promises in each cell of one grid."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from grid import DIAGONAL, GRID, SMALL, batch
from torch import Tensor

import visattn
from visattn.heads.detector import AbstractDetector


def build(arch: str, host: str, block: str | None) -> AbstractDetector:
    torch.manual_seed(0)
    return visattn.create_detector(arch, host, attention=block, **SMALL)


def run(model: AbstractDetector) -> tuple[Any, dict[str, Tensor]]:
    """Return the detections and the losses of a model that has not been trained."""
    images, targets = batch()
    with torch.no_grad():
        found = model.eval()(images)
    torch.manual_seed(1)
    return found, model.train()(images, targets)


@lru_cache(maxsize=1)
def baseline(arch: str, host: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """Return the detections, losses and first weights of a cell's baseline, once for all its blocks."""
    model = build(arch, host, None)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found, losses = run(model)
    return found, {key: loss.detach() for key, loss in losses.items()}, state


def check(arch: str, host: str, block: str) -> None:
    """Compare a cell with its baseline at step 0, then train one step and evaluate."""
    images, _ = batch()
    detector, (plain, plain_losses, state) = build(arch, host, block), baseline(arch, host)
    own = detector.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in state.items())
    assert len(own) > len(state)
    found, losses = run(detector)
    for one, other in zip(found, plain, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "labels", "scores"))
        assert one["boxes"].dtype == torch.float32
        assert ((one["labels"] >= 0) & (one["labels"] < 3)).all()
    assert all(torch.equal(losses[key], plain_losses[key]) for key in plain_losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    torch.optim.SGD(detector.parameters(), lr=1e-3).step()
    assert all(one["scores"].isfinite().all() for one in detector.eval()(images))


@pytest.mark.parametrize(("arch", "host", "block"), DIAGONAL)
def test_diagonal(arch: str, host: str, block: str) -> None:
    check(arch, host, block)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "host", "block"), GRID)
def test_grid(arch: str, host: str, block: str) -> None:
    check(arch, host, block)
