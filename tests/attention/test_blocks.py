"""The block contract, on every row of the case table."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from cases import Case, features, perturbed
from hypothesis import given, settings
from hypothesis import strategies as st
from table import ALL, CASES, NAMES, REFUSED
from torch import Tensor, nn

from visattn.attention import block, block_class, blocks
from visattn.attention._contract import AbstractGate, AbstractPool, MapTap
from visattn.types import FAMILIES, UsageError

SIZES = [(1, 1), (1, 5), (7, 1), (2, 3), (33, 17)]
HALVES = [torch.bfloat16, torch.float16]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
FIRST = list({case.name: case for case in reversed(CASES)}.values())  # compiling is slow: one row a block
first_case = pytest.mark.parametrize("case", FIRST, ids=str)
each_half = pytest.mark.parametrize("half", HALVES, ids=["bf16", "fp16"])
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def seen_maps(module: nn.Module, x: Tensor) -> dict[str, tuple[MapTap, Tensor]]:
    maps, handles = {}, []
    for name, tap in module.named_modules():
        if isinstance(tap, MapTap):
            handles.append(tap.register_forward_hook(lambda tap, _, y, name=name: maps.update({name: (tap, y)})))
    module(x)
    for handle in handles:
        handle.remove()
    return maps


def test_every_file_has_a_row() -> None:
    missing = set(blocks()) - set(NAMES)
    assert not missing, f"no row for {', '.join(sorted(missing))}: add tests/attention/rows/<block>.py"
    assert {case.name for case in ALL} == set(blocks())


@pytest.mark.parametrize("name", blocks())
def test_declares_its_family(name: str) -> None:
    cls = block_class(name)
    assert cls.family in FAMILIES
    assert (cls.family == "pool") == issubclass(cls, AbstractPool)


@pytest.mark.parametrize("name", blocks())
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (33, 17)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_default_block_at_64_channels(name: str, size: tuple[int, int], layout: torch.memory_format) -> None:
    x = features(2, 64, *size).to(memory_format=layout)
    for training in (False, True):
        y = block(name, 64).train(training)(x)
        assert y.shape == ((2, 64) if block_class(name).family == "pool" else x.shape)
        assert y.isfinite().all()


@every_case
def test_parameter_count(case: Case) -> None:
    assert sum(p.numel() for p in case.build().parameters()) == case.parameters


@every_case
@both_modes
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_formula_in_float64_and_its_gradients(case: Case, training: bool, size: tuple[int, int]) -> None:
    ours = perturbed(case.build()).double().train(training)
    # one value a channel: the smallest batch of all, with the smallest map
    count = 1 if size == (1, 1) else 3
    x = features(count, case.channels, *size, dtype=torch.float64).requires_grad_()
    twin = copy.deepcopy(ours)  # the running statistics of the first must not move under the second
    y, wanted = ours(x), case.reference(twin, x)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    toward = features(*y.shape, seed=3, dtype=torch.float64)
    got = torch.autograd.grad((y * toward).sum(), [x, *ours.parameters()])
    expected = torch.autograd.grad((wanted * toward).sum(), [x, *twin.parameters()], allow_unused=True)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=1e-7, atol=1e-8)


@every_case
@both_modes
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("identity", [False, True], ids=["paper", "identity"])
def test_shape_dtype_and_memory_format_stay(
    case: Case, training: bool, layout: torch.memory_format, identity: bool
) -> None:
    module = case.build().train(training)
    if identity:
        module.start_as_identity()
    x = features(2, case.channels, 6, 5).to(memory_format=layout)
    before, version = x.clone(), x._version
    y = module(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=layout)
    assert x._version == version, "the input was changed in place"
    assert torch.equal(x, before)


@every_case
@both_modes
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_one_sample_of_any_size(case: Case, training: bool, size: tuple[int, int]) -> None:
    module = perturbed(case.build()).train(training)
    y = module(features(1, case.channels, *size))
    assert y.shape == (1, case.channels, *size)
    assert y.isfinite().all()


@every_case
def test_samples_do_not_see_each_other_in_eval(case: Case) -> None:
    module = perturbed(case.build()).eval()
    x = features(4, case.channels, 6, 5)
    others = x.clone()
    others[1:] = 1e3 * x[1:].flip(0)
    torch.testing.assert_close(module(others)[0], module(x)[0])
    torch.testing.assert_close(module(x[:1])[0], module(x)[0])


@every_case
def test_every_parameter_has_a_gradient(case: Case) -> None:
    x = features(2, case.channels, 6, 5).requires_grad_()
    module = case.build().train()
    module(x).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())  # DDP would wait for them
    # in eval: a batch norm in training cancels the bias of the layer before it
    names = set(dict(module.named_parameters()))
    for seed in range(5):  # a ReLU may hide a parameter once
        module = perturbed(case.build(), seed).eval()
        y = module(x)
        (y * features(*y.shape, seed=3)).sum().backward()
        names -= {name for name, p in module.named_parameters() if p.grad.abs().max() > 1e-5}
    assert not names


@every_case
@each_half
@pytest.mark.parametrize("how", ["half", "autocast", "autocast on half"])
def test_half_precision(case: Case, half: torch.dtype, how: str) -> None:
    module = perturbed(case.build()).eval()
    x = features(2, case.channels, 9, 7, dtype=half)
    module, x = (module.to(half), x) if how == "half" else (module, x if how == "autocast on half" else x.float())
    wanted = case.reference(module, x.double())
    with torch.autocast("cpu", dtype=half, enabled=how != "half"):
        y = module(x)
    assert y.dtype == x.dtype
    assert (y - wanted).abs().max() <= 8 * torch.finfo(half).eps * wanted.abs().max()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
@pytest.mark.parametrize("largest", [1.0, 1e3], ids=str)
def test_identity_start_changes_nothing(case: Case, dtype: torch.dtype, largest: float) -> None:
    x = features(2, case.channels, 6, 5)
    x = (x / x.abs().max() * largest).to(dtype)
    for training in (False, True):
        module = perturbed(case.build()).train(training)
        module.start_as_identity()
        assert torch.equal(module.to(dtype)(x), x)
        if dtype in HALVES:
            with torch.autocast("cpu", dtype=dtype):
                assert torch.equal(module.float()(x), x)


@every_case
def test_identity_start_is_left_by_training(case: Case) -> None:
    module = case.build().train()
    module.start_as_identity()
    x = features(2, case.channels, 6, 5)
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-2)
    assert torch.equal(module(x), x)
    module(x).square().sum().backward()
    if module.strength is not None:
        assert module.strength.shape == (1,)  # FSDP2 refuses scalars
        assert module.strength.grad.abs() > 1e-3
    optimiser.step()
    assert not torch.equal(module(x), x)


@every_case
def test_full_strength_is_the_papers_block(case: Case) -> None:
    module = perturbed(case.build()).double().eval()
    x = features(2, case.channels, 6, 5, dtype=torch.float64)
    wanted = module(x)
    module.register_parameter("strength", nn.Parameter(torch.ones(1, dtype=torch.float64)))
    torch.testing.assert_close(module(x), wanted)


@every_case
def test_maps_are_as_declared(case: Case) -> None:
    module = perturbed(case.build()).eval()
    n, c, h, w = shape = (2, case.channels, 6, 5)
    x = features(*shape)
    maps = seen_maps(module, x)
    assert {name: tap.kind for name, (tap, _) in maps.items()} == case.maps
    shapes = {
        "channel": (n, c, 1, 1),
        "spatial": (n, 1, h, w),
        "pool": (n, None, h, w),
        "pairwise": (n, None, h * w, h * w),
    }
    for tap, value in maps.values():
        if tap.kind == "full":
            assert torch.broadcast_shapes(value.shape, x.shape) == shape
        else:
            assert value.ndim == 4
            wanted = zip(value.shape, shapes[tap.kind], strict=True)
            assert all(size in {axis, size if axis is None else axis} for size, axis in wanted), value.shape
        assert tap.lower is None or value.min() >= tap.lower
        assert tap.upper is None or value.max() <= tap.upper
        if tap.softmax:
            total = value.sum(-1) if tap.kind == "pairwise" else value.sum(dim=(2, 3))
            torch.testing.assert_close(total, torch.ones_like(total))
        assert value.std() > 1e-3, "a map that shows nothing"
    if isinstance(module, AbstractGate):
        product = x
        for _, value in maps.values():
            product = product * value
        torch.testing.assert_close(module(x), product)


@every_case
def test_copies_and_state_round_trip(case: Case) -> None:
    module = perturbed(case.build()).eval()
    module.start_as_identity()
    perturbed(module)  # the strength too
    x = features(2, case.channels, 6, 5)
    fresh = case.build().eval()
    fresh.start_as_identity()
    fresh.load_state_dict(module.state_dict(), strict=True)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fresh):
        assert torch.equal(copied(x), module(x))


@every_case
def test_graphs(case: Case) -> None:
    module = perturbed(case.build()).eval()
    if case.keywords:  # with a strength and without: every block has a row of both kinds
        module.start_as_identity()
        perturbed(module)
    x = features(2, case.channels, 6, 5)
    wanted = module(x)
    exported = torch.export.export(module, (x,))
    assert not [node for node in exported.graph.nodes if "tap" in str(node.target).lower()]
    torch.testing.assert_close(exported.module()(x), wanted)
    traced = torch.fx.symbolic_trace(module)
    torch.testing.assert_close(traced(x), wanted)
    other = features(1, case.channels, 1, 7)
    torch.testing.assert_close(traced(other), module(other))


@first_case
def test_compiled_whole_with_gradients(case: Case) -> None:
    module = perturbed(case.build()).train()
    x = features(2, case.channels, 6, 5).requires_grad_()
    twin, twin_x = copy.deepcopy(module), x.detach().clone().requires_grad_()
    torch.compiler.reset()
    y = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    y.square().sum().backward()
    twin(twin_x).square().sum().backward()
    torch.testing.assert_close(y, twin(twin_x))
    for one, other in zip([x, *module.parameters()], [twin_x, *twin.parameters()], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@first_case
def test_per_sample_gradients(case: Case) -> None:
    module = perturbed(case.build()).eval()
    x = features(3, case.channels, 4, 3)
    each = torch.func.vmap(torch.func.grad(lambda sample: module(sample[None]).square().sum()))(x)
    alone = x.clone().requires_grad_()
    module(alone).square().sum().backward()
    torch.testing.assert_close(each, alone.grad, rtol=1e-4, atol=1e-4)


@settings(max_examples=200, deadline=None, database=None)
@given(
    name=st.sampled_from(blocks()),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)),
    training=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, *HALVES]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_any_shape(
    name: str, shape: tuple[int, int, int, int], training: bool, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    try:
        module = block(name, shape[1])
    except UsageError as error:  # a limit on the channels, and only that, may refuse
        said = str(error)
        module = None
    if module is None:
        assert re.search(r"channels.*(multiple|divid|even)", said), said
        assert "\n" not in said
        return
    x = features(*shape, dtype=dtype).to(memory_format=layout)
    y = module.to(dtype).train(training)(x)
    assert y.shape == (shape[:2] if module.family == "pool" else shape)
    assert y.dtype == dtype
    assert y.isfinite().all()


@pytest.mark.parametrize("name", blocks())
def test_refusals_that_all_share(name: str) -> None:
    for wrong in (0, -3):
        with pytest.raises(UsageError, match=rf"channels must be at least 1, got {wrong}$"):
            block(name, wrong)
    with pytest.raises(UsageError, match=f"unknown keyword of {name} 'reductoin'") as caught:
        block(name, 8, reductoin=4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "keywords", "said"), REFUSED)
def test_refused_values(name: str, keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        block(name, 8, **keywords)
    assert "\n" not in str(caught.value)
