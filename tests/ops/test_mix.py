"""The step from an input towards an output, and the widening that it shares."""

from __future__ import annotations

import pytest
import torch

from visattn.ops import mix, widen

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_dtype
def test_no_strength_is_the_output_in_the_inputs_dtype(dtype: torch.dtype) -> None:
    x, y = torch.zeros(2, 3, dtype=dtype), torch.rand(2, 3)
    assert torch.equal(mix(x, y, None), y.to(dtype))


@every_dtype
@pytest.mark.parametrize("strength_dtype", [torch.float32, None], ids=["fp32", "same"])
def test_a_step_of_no_length_is_the_input_bit_for_bit(dtype: torch.dtype, strength_dtype: torch.dtype | None) -> None:
    limits = torch.finfo(dtype)
    x = torch.tensor([0.0, 1.1, -2.3, limits.tiny, 6e4, -6e4], dtype=dtype)
    for y in (-x, x * 3, torch.full_like(x, float("inf")), torch.full_like(x, -float("inf"))):
        got = mix(x, y, torch.zeros(1, dtype=strength_dtype or dtype))
        assert got.dtype == dtype
        assert torch.equal(got, x)


@pytest.mark.parametrize("strength", [0.25, 1.0, -0.5])
def test_formula_and_derivatives(strength: float) -> None:
    x, y = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    a = torch.tensor([strength], dtype=torch.float64)
    torch.testing.assert_close(mix(x, y, a), (1 - strength) * x + strength * y)
    leaves = [t.requires_grad_() for t in (x, y, a)]
    assert torch.autograd.gradcheck(mix, leaves)
    assert torch.autograd.gradgradcheck(mix, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_difference_is_taken_in_fp32(dtype: torch.dtype) -> None:
    # in fp16 6e4 - (-6e4) is infinite
    x, y = torch.tensor([-6e4], dtype=dtype), torch.tensor([6e4], dtype=dtype)
    torch.testing.assert_close(mix(x, y, torch.tensor([0.5])), torch.zeros(1, dtype=dtype), rtol=0, atol=1)


def test_a_failed_output_is_not_hidden() -> None:
    # an attention that broke down must be seen, or a comparison would count it as healthy
    assert mix(torch.ones(1), torch.full((1,), float("nan")), torch.tensor([0.5])).isnan().all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_memory_format_stays(layout: torch.memory_format) -> None:
    x = torch.rand(2, 3, 4, 5).to(memory_format=layout)
    assert mix(x, x + 1, torch.ones(1)).is_contiguous(memory_format=layout)


@every_dtype
def test_widen(dtype: torch.dtype) -> None:
    x = torch.rand(3, dtype=dtype)
    wide = widen(x)
    assert wide.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(wide.to(dtype), x)
    assert (wide is x) == (dtype in {torch.float32, torch.float64}), "a copy where none is needed"
    traced = torch.fx.symbolic_trace(widen)
    assert torch.equal(traced(x), wide)
