"""Attention between positions: fused and explicit are one thing, and products do not overflow."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visattn.attention import block
from visattn.attention._contract import MapTap
from visattn.maps import capture
from visattn.ops import attend_pairs, narrow, wide_matmul

HALVES = [torch.bfloat16, torch.float16]
each_half = pytest.mark.parametrize("half", HALVES, ids=["bf16", "fp16"])
watched_or_not = pytest.mark.parametrize("watched", [False, True], ids=["fused", "watched"])
biased_or_not = pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
equal_or_not = pytest.mark.parametrize("width", [4, 6], ids=["equal", "wider"])


class Attention(nn.Module):
    """Queries, keys and values are parts of ``x``, with more positions to look at than to look from."""

    def __init__(self, width: int = 4, biased: bool = False, watched: bool = False) -> None:
        super().__init__()
        self.tap = MapTap("pairwise", softmax=True)
        self.width, self.biased = width, biased
        if watched:
            self.tap.register_forward_hook(nothing)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = x[:, :, :5, :4], x[..., :4], x[..., 4 : 4 + self.width]
        bias = x[..., :5].transpose(2, 3) if self.biased else None
        return attend_pairs(query, key, value, self.tap, scale=0.3, bias=bias)


def nothing(*_: Any) -> None: ...


def inputs(*, count: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 10, generator=torch.Generator().manual_seed(0)).to(dtype)


def formula(x: Tensor, width: int, biased: bool) -> Tensor:
    logits = 0.3 * torch.einsum("nkid,nkjd->nkij", x[:, :, :5, :4], x[..., :4])
    weights = (logits + x[..., :5].transpose(2, 3) if biased else logits).exp()
    return torch.einsum("nkij,nkjd->nkid", weights / weights.sum(-1, keepdim=True), x[..., 4 : 4 + width])


@watched_or_not
@biased_or_not
@equal_or_not
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
def test_formula_and_gradients(watched: bool, biased: bool, width: int, dtype: torch.dtype, bound: float) -> None:
    x, twin = inputs(dtype=dtype).requires_grad_(), inputs(dtype=torch.float64).requires_grad_()
    y, wanted = Attention(width, biased, watched)(x), formula(twin, width, biased)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), wanted, rtol=bound, atol=bound)
    y.sin().sum().backward()
    wanted.sin().sum().backward()
    torch.testing.assert_close(x.grad.double(), twin.grad, rtol=bound, atol=bound)


@watched_or_not
@biased_or_not
@equal_or_not
@each_half
@pytest.mark.parametrize("how", ["half", "autocast", "autocast on half"])
def test_half_precision(watched: bool, biased: bool, width: int, half: torch.dtype, how: str) -> None:
    x = inputs(dtype=half)
    wanted = formula(x.double(), width, biased)
    x = x.float() if how == "autocast" else x
    with torch.autocast("cpu", dtype=half, enabled=how != "half"):
        y = Attention(width, biased, watched)(x)
    assert y.dtype == x.dtype
    assert (y - wanted).abs().max() <= 8 * torch.finfo(half).eps * wanted.abs().max()


@each_half
@pytest.mark.parametrize("autocast", [False, True])
def test_the_tap_sees_weights_in_fp32(half: torch.dtype, autocast: bool) -> None:
    module, seen = Attention(), []
    module.tap.register_forward_hook(lambda _, __, weights: seen.append(weights))
    x = inputs(dtype=half)
    with torch.autocast("cpu", dtype=half, enabled=autocast):
        module(x)
    (weights,) = seen
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    logits = 0.3 * (x[:, :, :5, :4].double() @ x[..., :4].double().mT)
    torch.testing.assert_close(weights.double(), logits.softmax(-1), rtol=1e-5, atol=1e-6)


def kept(module: nn.Module, x: Tensor) -> int:
    """Return the size of the largest tensor kept for the backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return max(sizes)


def test_nothing_of_the_size_of_the_weights_is_kept() -> None:
    x, module = torch.randn(1, 8, 20, 20, requires_grad=True), block("nonlocal", 8)
    assert kept(module, x) == x.numel()
    module.pairwise.register_forward_hook(nothing)
    assert kept(module, x) == 400**2


@watched_or_not
@biased_or_not
def test_graphs(watched: bool, biased: bool) -> None:
    module, x = Attention(biased=biased, watched=watched), inputs()
    wanted = module(x)
    traced = torch.fx.symbolic_trace(module)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    exported = torch.export.export(module, (x,)).module()
    for other in (traced, pickle.loads(pickle.dumps(traced)), compiled, exported):
        torch.testing.assert_close(other(x), wanted)
    torch.testing.assert_close(traced(inputs(count=3)), module(inputs(count=3)))


@watched_or_not
@biased_or_not
def test_per_sample_gradients(watched: bool, biased: bool) -> None:
    module, x = Attention(biased=biased, watched=watched), inputs().requires_grad_()
    each = torch.func.vmap(torch.func.grad(lambda sample: module(sample[None]).square().sum()))(x.detach())
    module(x).square().sum().backward()
    torch.testing.assert_close(each, x.grad)


def test_second_derivatives_when_watched() -> None:
    module = Attention(biased=True, watched=True)
    assert torch.autograd.gradgradcheck(module, inputs(count=1, dtype=torch.float64).requires_grad_())


RECORDED: list[tuple[str, dict[str, Any]]] = [
    ("nonlocal", {}),
    ("nonlocal", {"mode": "gaussian", "scale": 0.1}),
    ("nonlocal", {"mode": "dot_product"}),
    ("nonlocal", {"mode": "concatenation", "subsample": "before"}),
    ("nonlocal", {"subsample": "after", "norm": "none"}),
    ("danet", {}),
    ("cc", {}),
    ("bot", {}),
]


@pytest.mark.parametrize(("name", "keywords"), RECORDED, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_recorder_changes_nothing_beyond_rounding(name: str, keywords: dict[str, Any], training: bool) -> None:
    torch.manual_seed(0)
    module = block(name, 16, **keywords).train(training)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    twin = copy.deepcopy(module)
    x, twin_x = (torch.randn(2, 16, 7, 5, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab")
    with capture(twin) as maps:
        wanted = twin(twin_x)
    y = module(x)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    for key, value in maps.items():
        assert value.shape == ((2, 16, 1, 1) if key == "channel" else (2, getattr(module, "heads", 1), 35, 35))
        if maps.info(key).softmax:
            torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:-1]))
    y.square().sum().backward()
    wanted.square().sum().backward()
    for one, other in zip([x, *module.parameters()], [twin_x, *twin.parameters()], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value)


@each_half
def test_products_are_wide_under_autocast_too(half: torch.dtype) -> None:
    x = torch.full((2, 300), 200.0, dtype=half)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=half, enabled=enabled):
            y = wide_matmul(x, x.T)
        assert y.dtype == torch.float32
        assert torch.equal(y, torch.full((2, 2), 300 * 200.0**2))
    double = torch.rand(2, 3, dtype=torch.float64)
    assert torch.equal(wide_matmul(double, double.T), double @ double.T)
    assert wide_matmul(x.to("meta"), x.T.to("meta")).shape == (2, 2)  # where there is no autocast


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
def test_narrow(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor([0.5, -1.0, 1e300, -1e300], dtype=torch.float64)
    y = narrow(x, torch.zeros(1, dtype=dtype))
    assert y.dtype == dtype
    wanted = [0.5, -1.0, 1e300, -1e300] if dtype == torch.float64 else [0.5, -1.0, largest, -largest]
    assert y.double().tolist() == wanted
    traced = torch.fx.symbolic_trace(narrow)
    assert torch.equal(traced(x, torch.zeros(1, dtype=dtype)), y)
