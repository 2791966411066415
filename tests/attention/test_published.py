"""Blocks against what others published: parameter counts; and what single blocks promise beyond the contract."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from cases import features, perturbed
from table import rows

from visattn.attention import block

BLOCKS_OF_RESNET50 = {256: 3, 512: 4, 1024: 6, 2048: 3}  # output channels of a stage to its residual blocks
RESNET50 = 25_557_032


def size(name: str, channels: int) -> int:
    return sum(p.numel() for p in block(name, channels).parameters())


def test_parameters_of_published_networks() -> None:
    # CBAM: the authors' ResNet-50; BAM: pytorchcv's bam_resnet50, which loads the authors' weights
    assert RESNET50 + sum(n * size("cbam", c) for c, n in BLOCKS_OF_RESNET50.items()) == 28_089_624
    assert RESNET50 + sum(size("bam", c) for c in (256, 512, 1024)) == 25_915_099
    # SE: 2.53 million in the ResNet-50 of its paper
    assert sum(n * size("se", c) for c, n in BLOCKS_OF_RESNET50.items()) == pytest.approx(2.53e6, rel=2e-3)
    # GC with ratio 1/16 behind every block of stages 2 to 4: 2.5 million
    assert sum(n * size("gc", c) for c, n in BLOCKS_OF_RESNET50.items() if c > 256) == pytest.approx(2.5e6, rel=0.02)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_simam_takes_its_statistics_in_fp32(half: torch.dtype) -> None:
    # the sum of 112 * 112 squares overflows fp16
    module, x = block("simam", 2), (features(1, 2, 112, 112) * 20).to(half)
    (gate,) = module.gates(x)
    wanted = rows("simam")[0].reference(module, x.double()) / x.double()
    assert gate.dtype == torch.float32
    torch.testing.assert_close(gate.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4, 5)], ids=str)
def test_simam_of_a_constant(shape: tuple[int, ...]) -> None:
    torch.testing.assert_close(block("simam", 3)(torch.full(shape, 2.0)), torch.full(shape, 2 / (1 + 2.718282**-0.5)))


@pytest.mark.parametrize("channels", [1, 8, 16, 32, 64])
def test_gc_sees_its_input_at_any_width(channels: int) -> None:
    # a layer norm over one unit is constant, over two it keeps a sign: the context would be lost without a word
    torch.manual_seed(0)
    module = perturbed(block("gc", channels))
    terms = (module(x) - x for x in features(6, channels, 4, 5).split(1))
    assert len({f"{term[0, 0, 0, 0].item():.4f}" for term in terms}) >= 4


def test_gc_needs_no_strength_to_start_as_the_identity() -> None:
    x = features(2, 32, 4, 5)
    assert torch.equal(block("gc", 32)(x), x)  # the paper's own start
    module = perturbed(block("gc", 32))
    module.start_as_identity()
    assert module.strength is None  # in front of a layer of zeros it would have no gradient, nor would the layer
    assert not module.excite.weight.any()


def test_bam_in_a_batch_norm_of_one_value_leaves_the_statistics() -> None:
    module = perturbed(block("bam", 32)).train()
    before = {key: value.clone() for key, value in module.mlp.state_dict().items()}
    module(features(1, 32, 5, 4))
    assert all(torch.equal(value, before[key]) for key, value in module.mlp.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cbam", "simam", "gc"])
def test_inductor(name: str) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("inductor needs a C++ compiler")
    module = perturbed(block(name, 16))
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True)
    x, twin = features(2, 16, 6, 5).requires_grad_(), features(2, 16, 6, 5).requires_grad_()
    y, wanted = compiled(x), module(twin)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    y.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-3, atol=1e-3)
