"""What other tools do with an attended host, on every row of one table: nothing is lost, nothing is left behind."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import pytest
import timm
import torch
from life import FEW, IMAGES, ROWS, Row
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from timm.utils import ModelEmaV3, freeze, reparameterize_model, unfreeze
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import visattn
from visattn.attention._contract import AbstractAttention
from visattn.insertion.wrapper import Attended

every_row = pytest.mark.parametrize("row", ROWS, ids=str)
few_rows = pytest.mark.parametrize("row", FEW, ids=str)


def close(found: Tensor, wanted: Tensor) -> None:
    """Compare, relative to the largest value, with room for rounding alone."""
    torch.testing.assert_close(found / wanted.abs().max(), wanted / wanted.abs().max(), rtol=0, atol=1e-5)


def blocks(model: nn.Module) -> int:
    return sum(isinstance(module, AbstractAttention) for module in model.modules())


@every_row
def test_checkpoints_load_strictly_both_ways(row: Row) -> None:
    bare, model = row.bare(), row.attended()
    added = visattn.attention_state_dict(model)
    host = {key: value + 1 for key, value in bare.state_dict().items()}
    inserted = {key: value.clone() for key, value in added.items()}
    model.load_state_dict(host, strict=True)  # a host's file into the attended host
    assert all(torch.equal(value, host[key]) for key, value in model.state_dict().items() if key in host)
    assert all(torch.equal(value, inserted[key]) for key, value in visattn.attention_state_dict(model).items())
    whole = model.state_dict()
    bare.load_state_dict({key: value for key, value in whole.items() if key not in added}, strict=True)
    row.attended().load_state_dict(whole, strict=True)
    partial = {key: value for key, value in whole.items() if key != next(iter(added))}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(partial, strict=True)


@every_row
def test_copies_compute_the_same_and_share_nothing(row: Row) -> None:
    model = row.attended()
    wanted = model(IMAGES)
    copies = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    for twin in copies:
        assert list(twin.state_dict()) == list(model.state_dict())
        assert torch.equal(twin(IMAGES), wanted)


@few_rows
@pytest.mark.parametrize("kind", ["timm", "torch"])
def test_moving_averages_follow_the_blocks(row: Row, kind: str) -> None:
    model = row.attended()
    ema = ModelEmaV3(model, decay=0.5) if kind == "timm" else AveragedModel(model, avg_fn=lambda a, b, _: (a + b) / 2)
    if kind == "torch":
        ema.update_parameters(model)  # the first update copies
    start = {key: value.clone() for key, value in visattn.attention_state_dict(model).items()}
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    ema.update(model) if kind == "timm" else ema.update_parameters(model)
    assert list(ema.module.state_dict()) == list(model.state_dict())
    for key, value in visattn.attention_state_dict(ema.module).items():
        if key in dict(_parameters(model)):
            torch.testing.assert_close(value, start[key] + 0.5)


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name.replace("_checkpoint_wrapped_module.", ""), p) for name, p in model.named_parameters()]


@every_row
def test_traced_by_fx_and_exported(row: Row) -> None:
    model = row.attended()
    wanted = model(IMAGES)
    assert torch.equal(torch.fx.symbolic_trace(model)(IMAGES), wanted)
    if row in FEW:
        batch = torch.export.Dim("batch")
        program = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: batch},)).module()
        close(program(IMAGES), wanted)
        close(program(torch.cat([IMAGES, IMAGES])), model(torch.cat([IMAGES, IMAGES])))


def test_a_block_named_like_a_keyword_is_traced_and_exported() -> None:
    row = Row("plain", "nonlocal")
    model = row.attended()
    visattn.attend(model, "nonlocal", at="body", add=True)
    keys = {"norm.attention.nonlocal_1", "body.attention.nonlocal_1", "body.attention.nonlocal_2"}
    assert {".".join(key.split(".")[:3]) for key in visattn.attention_state_dict(model)} == keys
    wanted = model(IMAGES)
    assert torch.equal(torch.fx.symbolic_trace(model)(IMAGES), wanted)
    close(torch.export.export(model, (IMAGES,)).module()(IMAGES), wanted)
    assert visattn.detach(model, block="nonlocal") == ["norm/nonlocal_1", "body/nonlocal_1", "body/nonlocal_2"]


@few_rows
@pytest.mark.slow
def test_compiled_as_one_graph_with_gradients(row: Row) -> None:
    torch.compiler.reset()
    model, twin = row.attended().train(), row.attended().train()
    found = torch.compile(model, fullgraph=True, backend="aot_eager")(IMAGES)  # a break would raise
    wanted = twin(IMAGES)
    close(found, wanted)
    for output in (found, wanted):
        (output / wanted.detach().abs().max()).square().mean().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    explained = torch._dynamo.explain(twin)(IMAGES)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


@every_row
@pytest.mark.parametrize("kind", ["timm", "torch"])
def test_sync_batchnorm_reaches_host_and_blocks(row: Row, kind: str) -> None:
    model = row.attended()
    if kind == "torch" and row.host == "test_efficientnet":
        pytest.skip("torch's converter drops the activation in timm's BatchNormAct2d, without attention too")
    wanted, keys = model(IMAGES), list(model.state_dict())
    model = convert_sync_batchnorm(model) if kind == "timm" else nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert not any(type(m) is nn.BatchNorm2d for m in model.modules())
    assert any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    assert list(model.state_dict()) == keys
    close(model.eval()(IMAGES), wanted)


@every_row
def test_frozen_and_unfrozen_by_timm(row: Row) -> None:
    model = row.attended()
    wanted, keys = model(IMAGES), list(model.state_dict())
    freeze(model)
    assert not any(p.requires_grad for p in model.parameters())
    close(model.train()(IMAGES), wanted)  # timm freezes the norms in blocks too
    unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())
    assert list(model.state_dict()) == keys
    close(model.eval()(IMAGES), wanted)
    model = freeze_batch_norm_2d(model)
    close(model.train()(IMAGES), wanted)


@pytest.mark.parametrize("host", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("block", ["cbam", "coordatt"])
def test_gradient_checkpointing_gives_the_same_gradients(host: str, block: str) -> None:
    model, twin = Row(host, block).attended().train(), Row(host, block).attended().train()
    model.set_grad_checkpointing(True)
    runs = []
    module = next(m for m in model.modules() if isinstance(m, AbstractAttention))
    module.register_forward_pre_hook(lambda *_: runs.append(1))
    for each in (model, twin):
        each(IMAGES).square().mean().backward()
    assert len(runs) == 2, "the block runs again on the way back"
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("host", "at"),
    [("repvgg_a0", "stages"), ("repvit_m0_9", "stages.*.blocks.0.token_mixer")],
    ids=["in place", "fuse"],
)
def test_reparameterised_hosts_keep_their_blocks(host: str, at: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(host, num_classes=3).eval()
    visattn.attend(model, "cbam", at=at, init="paper")
    fused = reparameterize_model(model)
    assert blocks(fused) == blocks(model) > 0
    assert len(list(fused.parameters())) < len(list(model.parameters()))
    close(fused(IMAGES), model(IMAGES))


class Merging(nn.Module):
    """A convolution that merges, and by way of it the module around it, as RepViT's do."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3) if inner is None else inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def fuse(self) -> nn.Module:
        return self.inner.fuse() if isinstance(self.inner, Merging | Attended) else self.inner


def test_a_module_that_would_merge_an_attended_child_stops() -> None:
    model = nn.Sequential(Merging(Merging()))
    visattn.attend(model, "eca", at="0")
    assert blocks(reparameterize_model(model)) == 1
    visattn.detach(model)
    visattn.attend(model, "eca", at="0.inner")
    with pytest.raises(AttributeError, match="fuse"):
        reparameterize_model(model)


@every_row
def test_convolutions_and_norms_fuse_around_blocks(row: Row) -> None:
    from torch.fx.experimental.optimization import fuse

    model = row.attended()
    fused = fuse(model)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules()) < sum(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )
    close(fused(IMAGES), model(IMAGES))


def test_one_convolution_and_an_attended_norm_fuse_by_hand() -> None:
    model = Row("plain", "cbam").attended()
    wanted = model(IMAGES)
    site = model.norm
    assert isinstance(site, Attended)
    model.stem = nn.utils.fusion.fuse_conv_bn_eval(model.stem, site.base)
    site.add_module("_checkpoint_wrapped_module", nn.Identity())  # the norm goes, the block stays
    close(model(IMAGES), wanted)


@every_row
def test_channels_last_reaches_every_site(row: Row) -> None:
    model = row.attended()
    wanted = model(IMAGES)
    layouts = []
    for module in model.modules():
        if isinstance(module, AbstractAttention) and row.block != "additive":
            module.register_forward_hook(lambda _m, _a, y: layouts.append(y))
    model = model.to(memory_format=torch.channels_last)
    close(model(IMAGES.contiguous(memory_format=torch.channels_last)), wanted)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in layouts)
    assert len(layouts) == (0 if row.block == "additive" else blocks(model))


@few_rows
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize.* deprecated:UserWarning")
def test_dynamic_int8_takes_linear_layers_and_leaves_blocks(row: Row) -> None:
    model = row.attended()
    wanted = model(IMAGES)
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    names = [name for name, module in small.named_modules() if "dynamic" in type(module).__module__]
    assert len(names) == 1, "the classifier"
    assert (small(IMAGES) - wanted).abs().max() < 0.05 * wanted.abs().max()
    added = visattn.attention_state_dict(model)
    assert all(torch.equal(value, added[key]) for key, value in visattn.attention_state_dict(small).items())


@few_rows
@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_weight_only_int8_takes_linear_layers_and_leaves_blocks(row: Row) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = row.attended()
    wanted = model(IMAGES)
    added = {key: value.clone() for key, value in visattn.attention_state_dict(model).items()}
    quantize_(model, Int8WeightOnlyConfig())
    assert [name for name, p in model.named_parameters() if type(p.data) is not Tensor], "the classifier"
    assert (model(IMAGES) - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert all(torch.equal(value, added[key]) for key, value in visattn.attention_state_dict(model).items())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_by_torch() -> None:
    with pytest.raises(Exception, match="variable number of arguments"):
        torch.jit.script(Row("plain", "cbam").attended())
