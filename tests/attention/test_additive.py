"""The pool contract: what the additive head weighs, keeps and returns."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import Case, features, perturbed
from table import POOLS
from torch import Tensor, nn

from visattn.attention.additive import Additive
from visattn.types import UsageError

every_pool = pytest.mark.parametrize("case", POOLS, ids=str)
SIZES = [(1, 1), (1, 5), (7, 1), (9, 6)]


def head(channels: int = 12, **keywords: int) -> Additive:
    torch.manual_seed(0)
    return perturbed(Additive(channels, **keywords))


def weights(pool: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    seen = []
    handle = pool.pool.register_forward_hook(lambda _, __, y: seen.append(y))
    pool(x, mask)
    handle.remove()
    return seen[0]


def some_mask(n: int, h: int, w: int) -> Tensor:
    mask = torch.rand(n, h, w, generator=torch.Generator().manual_seed(4)) < 0.6
    mask[:, 0, 0] = True
    return mask


@every_pool
def test_parameter_count(case: Case) -> None:
    assert sum(p.numel() for p in case.build().parameters()) == case.parameters


@every_pool
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_formula_in_float64_and_its_gradients(case: Case, masked: bool, size: tuple[int, int]) -> None:
    pool = perturbed(case.build()).double()
    x = features(3, 12, *size, dtype=torch.float64).requires_grad_()
    mask = some_mask(3, *size) if masked else None
    y, wanted = pool(x, mask), case.reference(pool, x, mask)
    assert y.shape == (3, 12)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    toward = features(3, 12, 1, 1, seed=3, dtype=torch.float64).flatten(1)
    got = torch.autograd.grad((y * toward).sum(), [x, *pool.parameters()])
    expected = torch.autograd.grad((wanted * toward).sum(), [x, *pool.parameters()])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2, 3, 12])
@pytest.mark.parametrize("top_k", [None, 1, 4])
def test_weights_sum_to_one_and_exactly_k_are_kept(heads: int, top_k: int | None) -> None:
    pool = head(heads=heads, top_k=top_k)
    alpha = weights(pool, features(3, 12, 5, 4))
    assert alpha.shape == (3, heads, 5, 4)
    assert alpha.min() >= 0
    torch.testing.assert_close(alpha.sum((2, 3)), torch.ones(3, heads))
    assert torch.equal((alpha > 0).sum((2, 3)), torch.full((3, heads), top_k or 20))


def test_exactly_k_are_kept_among_equals() -> None:
    alpha = weights(head(top_k=3), torch.ones(2, 12, 5, 4))
    assert torch.equal((alpha > 0).sum((1, 2, 3)), torch.tensor([3, 3]))
    torch.testing.assert_close(alpha[alpha > 0], torch.full((6,), 1 / 3))


@pytest.mark.parametrize("top_k", [20, 21, 10**6])
def test_keeping_all_is_the_dense_head(top_k: int) -> None:
    x, mask = features(3, 12, 5, 4), some_mask(3, 5, 4)
    dense, sparse = head(heads=3), head(heads=3, top_k=top_k)
    assert torch.equal(sparse(x), dense(x))
    assert torch.equal(sparse(x, mask), dense(x, mask))


def test_heads_pool_their_own_channels() -> None:
    pool = head(heads=3)
    x = features(2, 12, 5, 4)
    alpha = weights(pool, x)
    assert (alpha[:, 0] - alpha[:, 1]).abs().max() > 1e-3
    for i, part in enumerate(x.chunk(3, dim=1)):
        torch.testing.assert_close(pool(x)[:, 4 * i : 4 * i + 4], (part * alpha[:, i : i + 1]).sum((2, 3)))


@pytest.mark.parametrize("top_k", [None, 4])
def test_masked_positions_have_no_weight_and_no_influence(top_k: int | None) -> None:
    pool, x, mask = head(heads=2, top_k=top_k), features(3, 12, 5, 4), some_mask(3, 5, 4)
    alpha = weights(pool, x, mask)
    assert not alpha[~mask.unsqueeze(1).expand_as(alpha)].any()
    torch.testing.assert_close(alpha.sum((2, 3)), torch.ones(3, 2))
    changed = torch.where(mask.unsqueeze(1), x, 1e3)
    torch.testing.assert_close(pool(changed, mask), pool(x, mask))


def test_fewer_allowed_positions_than_k() -> None:
    mask = torch.zeros(2, 5, 4, dtype=torch.bool)
    mask[:, 2, 1:3] = True
    pool, x = head(top_k=6), features(2, 12, 5, 4)
    assert torch.equal(weights(pool, x, mask)[:, 0] > 0, mask)
    torch.testing.assert_close(pool(x, mask), head()(x, mask))


@pytest.mark.parametrize("top_k", [None, 4])
def test_a_sample_without_any_position_pools_to_zeros(top_k: int | None) -> None:
    pool = head(top_k=top_k)
    x, mask = features(2, 12, 5, 4).requires_grad_(), torch.ones(2, 5, 4, dtype=torch.bool)
    mask[0] = False
    y = pool(x, mask)
    assert torch.equal(y[0], torch.zeros(12))
    torch.testing.assert_close(y[1:], pool(x[1:]))
    y.square().sum().backward()
    assert not x.grad[0].any()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@every_pool
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("how", ["half", "autocast", "autocast on half"])
def test_half_precision(case: Case, half: torch.dtype, how: str) -> None:
    # the k largest may change places under rounding: compared where all are kept
    pool = perturbed(case.build())
    pool.top_k = None
    x = features(2, 12, 9, 7, dtype=half)
    pool, x = (pool.to(half), x) if how == "half" else (pool, x if how == "autocast on half" else x.float())
    wanted = POOLS[0].reference(pool, x.double(), heads=pool.heads)
    with torch.autocast("cpu", dtype=half, enabled=how != "half"):
        y, alpha = pool(x), weights(pool, x)
    assert y.dtype == x.dtype
    assert alpha.dtype == torch.float32  # the softmax, whatever surrounds it
    torch.testing.assert_close(alpha.sum((2, 3)), torch.ones(2, pool.heads))
    assert (y - wanted).abs().max() <= 8 * torch.finfo(half).eps * wanted.abs().max()


@every_pool
def test_samples_do_not_see_each_other(case: Case) -> None:
    pool, x = perturbed(case.build()), features(4, 12, 5, 4)
    torch.testing.assert_close(pool(x[:1])[0], pool(x)[0])


@every_pool
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_layout_and_input_stay(case: Case, layout: torch.memory_format) -> None:
    pool, x = perturbed(case.build()), features(2, 12, 5, 4)
    wanted = pool(x)
    same = x.to(memory_format=layout)
    version = same._version
    torch.testing.assert_close(pool(same), wanted)
    assert same._version == version
    assert torch.equal(same, x)


@every_pool
def test_every_parameter_has_a_gradient(case: Case) -> None:
    pool = perturbed(case.build()).train()
    y = pool(features(1, 12, 5, 4))
    (y * torch.linspace(-1, 1, 12)).sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in pool.parameters())


@every_pool
def test_graphs_and_copies(case: Case) -> None:
    pool, x, mask = perturbed(case.build()).eval(), features(2, 12, 5, 4), some_mask(2, 5, 4)
    wanted = pool(x)
    fresh = case.build()
    fresh.load_state_dict(pool.state_dict(), strict=True)
    torch.compiler.reset()
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    traced = torch.fx.symbolic_trace(pool, concrete_args={"mask": None})
    for other in (fresh, copy.deepcopy(pool), pickle.loads(pickle.dumps(pool)), compiled, traced):
        torch.testing.assert_close(other(x), wanted)
    torch.testing.assert_close(compiled(x, mask), pool(x, mask))
    torch.testing.assert_close(torch.export.export(pool, (x, mask)).module()(x, mask), pool(x, mask))
    smaller = features(3, 12, 1, 2)
    torch.testing.assert_close(traced(smaller), pool(smaller))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"heads": 5}, "heads must divide the 12 channels, got 5; valid: 1, 2, 3, 4, 6, 12"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_refused_values(keywords: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Additive(12, **keywords)


@pytest.mark.parametrize("mask", [torch.ones(2, 5, 4), torch.ones(2, 4, 5, dtype=torch.bool)], ids=["float", "turned"])
def test_refused_masks(mask: Tensor) -> None:
    with pytest.raises(UsageError, match=r"mask must be bool of shape \(2, 5, 4\), got"):
        head()(features(2, 12, 5, 4), mask)
