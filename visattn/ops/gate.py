"""One primitive for every gate block: features times broadcast factors, at the memory cost of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy


def apply_gates(x: Tensor, gates: Sequence[Tensor], strength: Tensor | None = None) -> Tensor:
    """Return ``x * g1 * g2 ...`` where every gate broadcasts to ``x``.

    With a ``strength`` ``a`` each gate counts as ``1 + a * (g - 1)``: at ``a = 0`` the result is
    ``x`` bit for bit in every dtype, at ``a = 1`` the gates are the paper's.

    Shapes:
        - ``x``: ``(N, C, H, W)``; each gate: broadcastable to it; ``strength``: ``(1,)``.
        - output: as ``x``, in its dtype and memory format.

    Cost:
        One pass over ``x`` a gate; for backward only ``x`` and the gates are kept, however many
        gates there are (plain multiplication keeps each intermediate product).

    Example:
        >>> x, gate = torch.ones(1, 2, 3, 3), torch.full((1, 2, 1, 1), 0.5)
        >>> apply_gates(x, [gate])[0, 0, 0, 0].item()
        0.5
        >>> torch.equal(apply_gates(x, [gate], strength=torch.zeros(1)), x)
        True
    """
    factors = [effective_gate(gate, strength).to(x.dtype) for gate in gates]
    if isinstance(x, Proxy) or not torch.is_grad_enabled():
        return _product(x, factors)
    product: Tensor = _GateProduct.apply(x, *factors)
    return product


def effective_gate(gate: Tensor, strength: Tensor | None) -> Tensor:
    """Return ``1 + strength * (gate - 1)`` in fp32 (``gate`` itself without a strength).

    The mix is made before any cast to half precision, where ``1 + a * (g - 1)`` would lose the
    small steps that a first update makes.
    """
    if strength is None:
        return gate
    # promotion widens the half precisions and leaves float64; asking for the dtype would break FX tracing
    one = strength.new_ones(1, dtype=torch.float32)
    return one + strength * (gate - one)


def _product(x: Tensor, factors: Sequence[Tensor]) -> Tensor:
    for factor in factors:
        x = x * factor
    return x


class _GateProduct(torch.autograd.Function):
    """The product whose backward needs its input and the gates alone."""

    generate_vmap_rule = True  # with setup_context: torch.func's vmap and grad work, as on a plain product

    @staticmethod
    def forward(x: Tensor, *factors: Tensor) -> Tensor:
        return _product(x, factors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *factors = ctx.saved_tensors
        grads: list[Tensor | None] = [_product(grad, factors) if ctx.needs_input_grad[0] else None]
        for i, factor in enumerate(factors):
            if not ctx.needs_input_grad[i + 1]:
                grads.append(None)
                continue
            others = _product(grad * x, factors[:i] + factors[i + 1 :])
            grads.append(_reduce(others, factor))
        return tuple(grads)


def _reduce(full: Tensor, like: Tensor) -> Tensor:
    """Sum ``full`` over the axes along which ``like`` was broadcast."""
    axes = [i for i, (a, b) in enumerate(zip(full.shape, like.shape, strict=True)) if b == 1 and a != 1]
    return full.sum(dim=axes, keepdim=True) if axes else full
