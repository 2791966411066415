"""The pool contract, on every row of a pooling head; then what single heads promise."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import Case, features, perturbed
from table import POOLS
from torch import Tensor, nn

from visattn.attention import block, block_class
from visattn.attention._contract import MapTap
from visattn.types import UsageError

SIZES = [(1, 1), (1, 5), (7, 1), (9, 6)]
KEPT = {"top_k": None, "k": 1.0}  # keywords that select, and the values with which all positions stay

every_pool = pytest.mark.parametrize("case", POOLS, ids=str)
every_size = pytest.mark.parametrize("size", SIZES, ids=str)
every_head = pytest.mark.parametrize("name", sorted({case.name for case in POOLS}))
# the heads whose output is the weighed mean of the features themselves
WEIGHING = ["additive", "gated", "topk"]
every_weighing = pytest.mark.parametrize("name", WEIGHING)
FIRST = list({case.name: case for case in reversed(POOLS)}.values())
SELECTING = [case for case in POOLS if set(case.keywords) & set(KEPT)]


def head(name: str, channels: int = 12, **keywords: Any) -> nn.Module:
    torch.manual_seed(0)
    return perturbed(block(name, channels, **keywords))


def keeping(name: str, count: float | None, **keywords: Any) -> nn.Module:
    """Return a head that keeps ``count`` positions, all for ``None``."""
    key = "k" if name == "topk" else "top_k"
    return head(name, **{key: KEPT[key] if count is None else count}, **keywords)


def weights(pool: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    seen: list[Tensor] = []
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
@every_size
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


@every_pool
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@every_size
def test_the_map_is_a_softmax_over_positions(case: Case, masked: bool, size: tuple[int, int]) -> None:
    pool = perturbed(case.build()).train()
    assert {name: m.kind for name, m in pool.named_modules() if isinstance(m, MapTap)} == case.maps == {"pool": "pool"}
    assert pool.pool.softmax
    mask = some_mask(3, *size) if masked else None
    alpha = weights(pool, features(3, 12, *size), mask)
    assert alpha.shape == (3, pool.heads, *size)
    assert alpha.dtype == torch.float32
    assert alpha.min() >= 0
    torch.testing.assert_close(alpha.sum((2, 3)), torch.ones(3, pool.heads))
    assert size == (1, 1) or alpha.std() > 1e-3, "a map that shows nothing"


@every_pool
def test_masked_positions_have_no_weight_and_no_influence(case: Case) -> None:
    pool, x, mask = perturbed(case.build()), features(3, 12, 5, 4), some_mask(3, 5, 4)
    alpha = weights(pool, x, mask)
    assert not alpha[~mask.unsqueeze(1).expand_as(alpha)].any()
    changed = torch.where(mask.unsqueeze(1), x, 1e3)
    torch.testing.assert_close(pool(changed, mask), pool(x, mask))
    torch.testing.assert_close(pool(x, torch.ones_like(mask)), pool(x))


@every_pool
def test_a_sample_without_any_position_pools_to_zeros(case: Case) -> None:
    pool = perturbed(case.build())
    x, mask = features(2, 12, 5, 4).requires_grad_(), torch.ones(2, 5, 4, dtype=torch.bool)
    mask[0] = False
    y = pool(x, mask)
    assert torch.equal(y[0], torch.zeros(12))
    assert not weights(pool, x, mask)[0].any()
    torch.testing.assert_close(y[1:], pool(x[1:]))
    y.square().sum().backward()
    assert not x.grad[0].any()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@every_pool
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("how", ["half", "autocast", "autocast on half"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_half_precision(case: Case, half: torch.dtype, how: str, masked: bool) -> None:
    # the k largest may change places under rounding: compared where all are kept
    kept = {key: value for key, value in KEPT.items() if hasattr(case.build(), key)}
    pool = perturbed(replace(case, keywords={**case.keywords, **kept}).build())
    x, mask = features(2, 12, 9, 7, dtype=half), some_mask(2, 9, 7) if masked else None
    pool, x = (pool.to(half), x) if how == "half" else (pool, x if how == "autocast on half" else x.float())
    wanted = case.reference(pool, x.double(), mask, **kept)
    with torch.autocast("cpu", dtype=half, enabled=how != "half"):
        y, alpha = pool(x, mask), weights(pool, x, mask)
    assert y.dtype == x.dtype
    assert alpha.dtype == torch.float32  # the softmax, whatever surrounds it
    torch.testing.assert_close(alpha.sum((2, 3)), torch.ones(2, pool.heads))
    assert (y - wanted).abs().max() <= 8 * torch.finfo(half).eps * wanted.abs().max()


@every_pool
def test_large_maps_of_large_values_in_fp16(case: Case) -> None:
    pool, x = case.build().half(), torch.full((1, 12, 112, 112), 100.0).half()
    assert pool(x).isfinite().all()
    assert pool(x, torch.ones(1, 112, 112, dtype=torch.bool)).isfinite().all()


@every_pool
def test_samples_do_not_see_each_other(case: Case) -> None:
    pool, x = perturbed(case.build()), features(4, 12, 5, 4)
    others = x.clone()
    others[1:] = 1e3 * x[1:].flip(0)
    torch.testing.assert_close(pool(others)[0], pool(x)[0])
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
    wanted, hidden = pool(x), pool(x, mask)
    fresh = case.build().eval()
    fresh.load_state_dict(pool.state_dict(), strict=True)
    traced = torch.fx.symbolic_trace(pool, concrete_args={"mask": None})
    for other in (fresh, copy.deepcopy(pool), pickle.loads(pickle.dumps(pool)), traced):
        torch.testing.assert_close(other(x), wanted)
    smaller = features(3, 12, 1, 2)
    torch.testing.assert_close(traced(smaller), pool(smaller))
    torch.testing.assert_close(torch.fx.symbolic_trace(pool)(x, mask), hidden)
    exported = torch.export.export(pool, (x, mask))
    assert not [node for node in exported.graph.nodes if "tap" in str(node.target).lower()]
    torch.testing.assert_close(exported.module()(x, mask), hidden)
    torch.testing.assert_close(torch.export.export(pool, (x,)).module()(x), wanted)


@every_pool
def test_compiled_whole_with_gradients(case: Case) -> None:
    pool, mask = perturbed(case.build()).train(), some_mask(2, 5, 4)
    x = features(2, 12, 5, 4).requires_grad_()
    twin, twin_x = copy.deepcopy(pool), x.detach().clone().requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), pool(x))
    compiled(x, mask).square().sum().backward()
    twin(twin_x, mask).square().sum().backward()
    for one, other in zip([x, *pool.parameters()], [twin_x, *twin.parameters()], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@every_pool
def test_per_sample_gradients(case: Case) -> None:
    pool, x = perturbed(case.build()), features(3, 12, 4, 3)
    each = torch.func.vmap(torch.func.grad(lambda sample: pool(sample[None]).square().sum()))(x)
    alone = x.clone().requires_grad_()
    pool(alone).square().sum().backward()
    torch.testing.assert_close(each, alone.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", [torch.ones(2, 5, 4), torch.ones(2, 4, 5, dtype=torch.bool)], ids=["float", "turned"])
@every_head
def test_refused_masks(name: str, mask: Tensor) -> None:
    with pytest.raises(UsageError, match=r"mask must be bool of shape \(2, 5, 4\), got"):
        head(name)(features(2, 12, 5, 4), mask)


@every_head
def test_heads_that_do_not_divide_are_refused_with_those_that_do(name: str) -> None:
    for heads, said in ((5, "must divide the 12 channels, got 5; valid: 1, 2, 3, 4, 6, 12"), (0, "must be at least 1")):
        with pytest.raises(UsageError, match=f"heads {said}"):
            block(name, 12, heads=heads)


@every_weighing
@pytest.mark.parametrize("heads", [1, 3, 12])
@pytest.mark.parametrize(("keep", "count"), [(None, 20), (1, 1), (4, 4)])
def test_exactly_k_are_kept(name: str, heads: int, keep: int | None, count: int) -> None:
    pool = keeping(name, keep, heads=heads)
    alpha = weights(pool, features(3, 12, 5, 4))
    assert torch.equal((alpha > 0).sum((2, 3)), torch.full((3, heads), count))
    ties = weights(pool, torch.ones(2, 12, 5, 4))
    assert torch.equal((ties > 0).sum((2, 3)), torch.full((2, heads), count))
    torch.testing.assert_close(ties[ties > 0], torch.full((2 * heads * count,), 1 / count))


@every_weighing
@pytest.mark.parametrize("keep", [20, 21, 10**6])
def test_keeping_all_is_the_dense_head(name: str, keep: int) -> None:
    x, mask = features(3, 12, 5, 4), some_mask(3, 5, 4)
    dense, sparse = keeping(name, None, heads=3), keeping(name, keep, heads=3)
    assert torch.equal(sparse(x), dense(x))
    assert torch.equal(sparse(x, mask), dense(x, mask))


@every_weighing
def test_fewer_allowed_positions_than_k(name: str) -> None:
    mask = torch.zeros(2, 5, 4, dtype=torch.bool)
    mask[:, 2, 1:3] = True
    pool, x = keeping(name, 6), features(2, 12, 5, 4)
    assert torch.equal(weights(pool, x, mask)[:, 0] > 0, mask)
    torch.testing.assert_close(pool(x, mask), keeping(name, None)(x, mask))


@every_weighing
def test_heads_pool_their_own_channels(name: str) -> None:
    pool, x = keeping(name, 7, heads=3), features(2, 12, 5, 4)
    alpha = weights(pool, x)
    assert (alpha[:, 0] - alpha[:, 1]).abs().max() > 1e-3
    for i, part in enumerate(x.chunk(3, dim=1)):
        torch.testing.assert_close(pool(x)[:, 4 * i : 4 * i + 4], (part * alpha[:, i : i + 1]).sum((2, 3)))


@every_weighing
@pytest.mark.parametrize("keep", [None, 5])
def test_a_padded_sample_pools_as_it_does_alone(name: str, keep: int | None) -> None:
    pool, x = keeping(name, keep), features(2, 12, 5, 4)
    mask = F.pad(torch.ones(2, 5, 4, dtype=torch.bool), (0, 3, 0, 2))
    torch.testing.assert_close(pool(F.pad(x, (0, 3, 0, 2), value=7.0), mask), pool(x))


@pytest.mark.parametrize(("share", "count"), [(0.1, 3), (0.25, 8), (1e-9, 1), (0.999, 30), (1.0, 30)])
def test_a_share_is_of_the_allowed_positions_and_rounded_up(share: float, count: int) -> None:
    pool, x = head("topk", k=share, heads=2), features(2, 12, 6, 5)
    assert torch.equal((weights(pool, x) > 0).sum((2, 3)), torch.full((2, 2), count))
    mask = F.pad(torch.ones(2, 6, 5, dtype=torch.bool), (0, 5, 0, 4))
    padded = F.pad(x, (0, 5, 0, 4), value=9.0)
    assert torch.equal((weights(pool, padded, mask) > 0).sum((2, 3)), torch.full((2, 2), count))
    torch.testing.assert_close(pool(padded, mask), pool(x))


@every_weighing
def test_the_gradient_reaches_kept_positions_alone(name: str) -> None:
    pool, x = keeping(name, 4), features(2, 12, 5, 4).requires_grad_()
    kept = weights(pool, x)[:, 0] > 0
    pool(x).square().sum().backward()
    assert torch.equal(x.grad.abs().amax(1) > 0, kept)


def test_a_temperature_divides_the_scores() -> None:
    x = features(2, 12, 5, 4)
    sharp, plain = head("additive", temperature=0.5), head("additive")
    assert weights(sharp, x).amax() > weights(plain, x).amax()
    with torch.no_grad():
        plain.score.weight.mul_(2)
    torch.testing.assert_close(sharp(x), plain(x))


@pytest.mark.parametrize("form", ["additive", "attention_w", "attention_weights"])
def test_weights_of_attention_deep_mil(form: str) -> None:
    torch.manual_seed(0)
    first, second, last = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(8, 1)
    bag = features(1, 12, 5, 4)[0].flatten(1).T
    if form == "additive":
        theirs = nn.ModuleDict({"attention": nn.Sequential(first, nn.Tanh(), last)})
        scores = theirs["attention"](bag)
    else:
        both = {"attention_V": nn.Sequential(first, nn.Tanh()), "attention_U": nn.Sequential(second, nn.Sigmoid())}
        theirs = nn.ModuleDict({**both, form: last})
        scores = last(theirs["attention_V"](bag) * theirs["attention_U"](bag))
    ours = block_class("additive" if form == "additive" else "gated").from_reference(theirs.state_dict())
    wanted = torch.softmax(scores.T, dim=1) @ bag
    torch.testing.assert_close(ours(bag.T.reshape(1, 12, 5, 4)), wanted)


def test_weights_of_clip_and_the_shown_weights() -> None:
    torch.manual_seed(0)
    names = ("q_proj", "k_proj", "v_proj", "c_proj")
    theirs = perturbed(nn.ModuleDict({name: nn.Linear(12, 12) for name in names}))
    place, x = torch.randn(26, 12), features(2, 12, 5, 5)
    pool = block_class("attention_pool2d").from_reference(
        {"positional_embedding": place, **theirs.state_dict()}, heads=3
    )
    tokens = x.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + place[:, None]
    biases = torch.cat([theirs[name].bias for name in names[:3]])
    projections = {f"{name}_weight": theirs[name].weight for name in names[:3]}
    y, beta = F.multi_head_attention_forward(
        tokens[:1], tokens, tokens, 12, 3, None, biases, None, None, False, 0.0, theirs["c_proj"].weight,
        theirs["c_proj"].bias, use_separate_proj_weight=True, average_attn_weights=False, **projections,
    )  # fmt: skip
    torch.testing.assert_close(pool(x), y[0], rtol=1e-5, atol=1e-5)
    shown = beta[:, :, 0, 1:] / beta[:, :, 0, 1:].sum(2, keepdim=True)
    torch.testing.assert_close(weights(pool, x).flatten(2), shown, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "heads"), [(2048, 32), (192, 3), (1000, 5), (12, 1)])
def test_clips_heads_have_64_channels_where_that_divides(channels: int, heads: int) -> None:
    with torch.device("meta"):
        assert block("attention_pool2d", channels).heads == heads


@pytest.mark.parametrize("size", [1, 3, 7])
def test_positions_of_their_own_size_are_used_as_they_are(size: int) -> None:
    pool = head("attention_pool2d", size=size)
    x, places = features(2, 12, size, size), pool.position[1:].T.reshape(1, 12, size, size)
    plain = copy.deepcopy(pool)
    with torch.no_grad():
        plain.position[1:] = 0
        plain.position[0] -= places.mean((2, 3))[0]  # the query is the mean of the map without positions
    torch.testing.assert_close(plain(x + places), pool(x))
