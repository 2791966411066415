"""The gate primitive against plain multiplication: values, derivatives, memory and rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visattn.ops import apply_gates, effective_gate

N, C, H, W = 2, 2, 2, 3
SHAPES = {"channel": (N, C, 1, 1), "spatial": (N, 1, H, W), "rows": (N, C, H, 1), "columns": (N, C, 1, W)}
SHAPES |= {"full": (N, C, H, W), "one": (1, 1, 1, 1)}
SETS = [["channel"], ["spatial"], ["full"], ["channel", "spatial"], ["rows", "columns"], ["one", "full", "channel"]]

every_set = pytest.mark.parametrize("names", SETS, ids="+".join)


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(names: list[str], dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor]]:
    x = (draw(N, C, H, W, seed=0) - 0.5).to(dtype).requires_grad_()
    return x, [draw(*SHAPES[name], seed=i + 1, dtype=dtype).requires_grad_() for i, name in enumerate(names)]


def plain(x: Tensor, gates: list[Tensor], strength: Tensor | None = None) -> Tensor:
    for gate in gates:
        x = x * (gate if strength is None else 1 + strength * (gate - 1))
    return x


@every_set
@pytest.mark.parametrize("strength", [None, 0.0, 0.7, 1.0])
def test_equals_plain_multiplication(names: list[str], strength: float | None) -> None:
    x, gates = inputs(names)
    a = None if strength is None else torch.full((1,), strength, dtype=torch.float64, requires_grad=True)
    leaves = [x, *gates, *([] if a is None else [a])]
    got, wanted = apply_gates(x, gates, a), plain(x, gates, a)
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=1e-14)
    toward = draw(N, C, H, W, seed=9)
    for one, other in zip(
        torch.autograd.grad((got * toward).sum(), leaves),
        torch.autograd.grad((wanted * toward).sum(), leaves),
        strict=True,
    ):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@every_set
def test_derivatives_of_both_orders(names: list[str]) -> None:
    x, gates = inputs(names)
    assert torch.autograd.gradcheck(lambda x, *g: apply_gates(x, g), (x, *gates))
    assert torch.autograd.gradgradcheck(lambda x, *g: apply_gates(x, g), (x, *gates))


@pytest.mark.parametrize("strength", [None, 0.3])
def test_keeps_the_input_and_the_gates_alone(strength: float | None) -> None:
    x, gates = inputs(["channel", "spatial", "rows", "columns"], torch.float32)
    a = None if strength is None else torch.full((1,), strength, requires_grad=True)
    large: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (large.append(t), t)[1], lambda t: t):
        apply_gates(x, gates, a)
    large = [t for t in large if t.numel() == x.numel()]
    assert [t.data_ptr() for t in large] == [x.data_ptr()]
    plainly: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (plainly.append(t), t)[1], lambda t: t):
        plain(x, gates, a)
    assert len([t for t in plainly if t.numel() == x.numel()]) == 4  # what is saved


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_get_no_gradient(frozen: int) -> None:
    x, gates = inputs(["channel", "spatial"])
    leaves = [x, *gates]
    leaves[frozen].requires_grad_(False)
    apply_gates(x, gates).sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [i == frozen for i in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gate_dtype", [None, torch.float32], ids=["same", "fp32 gates"])
@every_set
def test_no_strength_is_the_input_bit_for_bit(names: list[str], dtype: torch.dtype, gate_dtype: torch.dtype) -> None:
    x, gates = inputs(names, dtype)
    x.data[0, 0, 0, :3] = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).tiny, float("inf")])
    gates = [gate.to(gate_dtype or dtype) for gate in gates]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            y = apply_gates(x, gates, torch.zeros(1, dtype=dtype))
        assert y.dtype == dtype
        assert torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_mix_is_made_in_fp32(dtype: torch.dtype) -> None:
    gate, strength = torch.tensor([0.5], dtype=dtype), torch.tensor([1e-5])
    mixed = effective_gate(gate, strength)
    assert mixed.dtype == effective_gate(gate, strength.to(dtype)).dtype == torch.float32
    torch.testing.assert_close(mixed, torch.tensor([1 - 0.5e-5]), rtol=0, atol=1e-7)
    assert 1 + strength.to(dtype) * (gate - 1) == 1  # what half precision would make of this step
    assert effective_gate(gate, None) is gate
    assert effective_gate(gate.double(), strength.double()).dtype == torch.float64


def test_gradient_of_the_strength_in_half_precision() -> None:
    x, gates = inputs(["channel", "spatial"], torch.bfloat16)
    strength = torch.zeros(1, requires_grad=True)
    apply_gates(x, gates, strength).sum().backward()
    exact = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    plain(x.detach().double(), [gate.detach().double() for gate in gates], exact).sum().backward()
    assert strength.grad.dtype == torch.float32
    torch.testing.assert_close(strength.grad.double(), exact.grad, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@every_set
def test_memory_format_stays(names: list[str], layout: torch.memory_format) -> None:
    x, gates = inputs(names)
    x = x.detach().to(memory_format=layout).requires_grad_()
    y = apply_gates(x, gates)
    assert y.is_contiguous(memory_format=layout)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.is_contiguous(memory_format=layout)


def test_output_may_be_changed_in_place() -> None:
    # hosts do: `out += shortcut`, `relu(out, inplace=True)`
    x, gates = inputs(["channel", "spatial"])
    y = apply_gates(x, gates)
    y += 1
    y.relu_().sum().backward()
    assert gates[0].grad is not None


@every_set
def test_functional_transforms(names: list[str]) -> None:
    x, gates = inputs(names)
    gates = [gate.expand(N, *gate.shape[1:]) for gate in gates]

    def loss(x: Tensor, *gates: Tensor) -> Tensor:
        return apply_gates(x[None], [gate[None] for gate in gates]).square().sum()

    each = torch.func.vmap(torch.func.grad(loss))(x.detach(), *[gate.detach() for gate in gates])
    plain(x, gates).square().sum().backward()
    torch.testing.assert_close(each, x.grad)
