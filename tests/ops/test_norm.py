"""The norms for pooled features: torch's own, except where those refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from visattn.ops import PooledBatchNorm2d, PooledGroupNorm


def twins(**keywords: float | None) -> tuple[PooledBatchNorm2d, nn.BatchNorm2d]:
    ours, theirs = PooledBatchNorm2d(4, **keywords), nn.BatchNorm2d(4, **keywords)
    with torch.no_grad():
        for value in (ours.weight, ours.bias, ours.running_mean):
            value.copy_(torch.randn(4))
        ours.running_var.copy_(0.5 + torch.rand(4))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 2), (3, 4, 5, 6)], ids=str)
def test_is_the_plain_norm(training: bool, momentum: float | None, shape: tuple[int, ...]) -> None:
    ours, theirs = twins(momentum=momentum)
    ours.train(training)
    theirs.train(training)
    for _ in range(3):  # the running statistics of a step are seen by the next
        x = torch.randn(shape)
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, wanted = ours(one), theirs(other)
        assert torch.equal(y, wanted)
        y.square().sum().backward()
        wanted.square().sum().backward()
        assert torch.equal(one.grad, other.grad)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def test_a_single_value_is_normed_as_in_eval() -> None:
    ours, theirs = twins()
    before = copy.deepcopy(ours.state_dict())
    x = torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        theirs.train()(x)
    y = ours.train()(x)
    assert torch.equal(y, theirs.eval()(x))
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
    y.sum().backward()
    assert ours.weight.grad.abs().min() > 0
    assert ours.bias.grad.abs().min() > 0


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_graphs(training: bool) -> None:
    ours, _ = twins()
    ours.train(training)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(ours), fullgraph=True, backend="aot_eager")
    for shape in [(3, 4, 2, 2), (1, 4, 1, 1)]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), ours(x))
    traced = torch.fx.symbolic_trace(copy.deepcopy(ours))
    x = torch.randn(3, 4, 2, 2)
    torch.testing.assert_close(traced(x), ours(x))


@pytest.mark.parametrize("shape", [(1, 4, 2), (2, 4), (3, 4, 5, 6)], ids=str)
def test_the_group_norm_is_the_plain_one(shape: tuple[int, ...]) -> None:
    ours, theirs = PooledGroupNorm(2, 4), nn.GroupNorm(2, 4)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(4))
        ours.bias.copy_(torch.randn(4))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))


def test_a_single_value_a_group_is_normed_to_the_bias() -> None:
    ours = PooledGroupNorm(4, 4).double()  # in fp32 the division by the root of eps costs three digits
    nn.init.normal_(ours.bias)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        nn.GroupNorm(4, 4)(torch.randn(1, 4, 1))
    torch.testing.assert_close(ours(torch.randn(1, 4, 1).double()), ours.bias.view(1, 4, 1), rtol=1e-10, atol=1e-10)
