import copy

import pytest
import torch
from torch import nn

from visattn.attention import block
from visattn.attention._contract import AbstractTransform, MapTap
from visattn.insertion.wrapper import Attended
from visattn.maps.capture import capture, map_keys
from visattn.types import UsageError


class Host(nn.Module):
    """A host with one site; what follows the taps overwrites features in place."""

    def __init__(self, *blocks, identity=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        site = Attended(nn.BatchNorm2d(8))
        for name in blocks:
            site.insert(name, block(name, 8), before=False)
            if identity:
                site.attention[name].start_as_identity()
        self.body = nn.ModuleList([nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), site, nn.ReLU(inplace=True))])

    def forward(self, x):
        return self.body[0](self.stem(x)).mean((2, 3))


class Spoil(nn.Module):
    """Shows a map and then overwrites it."""

    def __init__(self):
        super().__init__()
        self.gate = MapTap("spatial")

    def forward(self, x):
        gate = self.gate(x.mean(1, keepdim=True).sigmoid())
        kept = gate.clone()
        gate.zero_()
        return x * kept


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def pictures(n=2, side=6):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(n))


def test_keys_and_facts_name_site_block_and_map():
    model = Host("se", "cbam").eval()
    with capture(model) as maps:
        model(pictures())
    assert list(maps) == ["body.0.1/se.channel", "body.0.1/cbam.channel", "body.0.1/cbam.spatial"]
    assert [tuple(values.shape) for values in maps.values()] == [(2, 8, 1, 1), (2, 8, 1, 1), (2, 1, 6, 6)]
    info = maps.info("body.0.1/cbam.spatial")
    assert info == ("body.0.1", "cbam", "spatial", "spatial", 0.0, 1.0, False, None)
    assert map_keys(model)["body.0.1/cbam.spatial"] == info


@pytest.mark.parametrize("wrap", ["attended", "compiled", "parallel", "nested"])
def test_wrappers_do_not_show_in_keys(wrap):
    model = Host("se")
    if wrap == "attended":  # a block of the host's own inside an attended module
        model.body[0][1].add_module("_checkpoint_wrapped_module", nn.Sequential(block("se", 8)))
        assert "body.0.1.0.channel" in map_keys(model)
    elif wrap == "compiled":
        assert list(map_keys(torch.compile(model, backend="eager"))) == list(map_keys(model))
    elif wrap == "parallel":
        assert list(map_keys(nn.DataParallel(model))) == list(map_keys(model))
    else:
        model.body[0] = Attended(model.body[0])
        assert list(map_keys(model)) == ["body.0.1/se.channel"]


def test_a_block_alone_and_one_built_into_a_model():
    alone, inside = block("cbam", 3), nn.Sequential(nn.Identity(), block("cbam", 3))
    for model, keys, site in ((alone, ["channel", "spatial"], ""), (inside, ["1.channel", "1.spatial"], "1")):
        with capture(model) as maps:
            model(pictures())
        assert list(maps) == keys
        assert maps.info(keys[0])[:3] == (site, "cbam", "channel")


def test_maps_are_the_gates_themselves():
    model = block("cbam", 3).eval()
    x = pictures()
    with torch.no_grad(), capture(model) as maps:
        y = model(x)
    assert torch.allclose(x * maps["channel"] * maps["spatial"], y)


def test_copies_survive_what_happens_to_the_original():
    model = Spoil()
    with capture(model) as maps:
        model(pictures())
    assert maps["gate"].min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_copies_are_detached_fp32_on_the_cpu_and_usable_with_autograd(dtype):
    model = block("se", 3).to(dtype)
    with torch.inference_mode(), capture(model) as maps:
        model(pictures().to(dtype))
    values = maps["channel"]
    assert values.dtype == torch.float32
    assert values.device.type == "cpu"
    assert not values.requires_grad
    (values * torch.ones(1, requires_grad=True)).sum().backward()  # an inference tensor would raise


def test_calls_add_up_to_the_limit():
    model = block("se", 3)
    first, second = pictures(2), pictures(3)
    with capture(model, limit=4) as maps:
        model(first)
        model(second)
        model(second)
    with capture(model) as alone:
        model(torch.cat([first, second])[:4])
    assert torch.equal(maps["channel"], alone["channel"])


def test_pictures_of_several_sizes_are_refused():
    model = block("cbam", 3)
    with capture(model) as maps:
        model(pictures(side=6))
        model(pictures(side=8))
    assert len(maps["channel"]) == 4
    with pytest.raises(UsageError, match=r"several sizes.*\(1, 6, 6\).*\(1, 8, 8\)"):
        maps["spatial"]


def test_no_hook_is_left():
    model = Host("cbam")
    before = hooks(model)
    for _ in range(50):
        with capture(model):
            assert hooks(model) == before + 2
        with pytest.raises(RuntimeError, match="stop"), capture(model):
            raise RuntimeError("stop")
        assert hooks(model) == before


def test_recording_changes_nothing():
    model = Host("cbam", identity=True)
    twin = copy.deepcopy(model)
    state = torch.get_rng_state()
    with capture(model):
        y = model(pictures())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(y, twin(pictures()))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    assert model.training


@pytest.mark.parametrize("how", ["function", "module"])
def test_a_model_compiled_and_run_first_gives_the_same_maps(how):
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    model = Host("cbam").eval()
    with capture(model) as eager:
        expected = model(pictures())
    compiled = torch.compile(model, backend=backend) if how == "function" else model
    if how == "module":
        model.compile(backend=backend)
    compiled(pictures())
    made = len(graphs)
    assert made > 0
    with capture(compiled) as maps:
        compiled(pictures())
    assert list(maps) == list(eager)
    assert all(torch.equal(maps[key], eager[key]) for key in eager)
    assert torch.equal(compiled(pictures()), expected)
    assert len(graphs) == made  # neither recording nor what came after compiled anything anew


@pytest.mark.parametrize(
    ("model", "match"),
    [(nn.Linear(2, 2), "Linear has no attention map"), (nn.Sequential(), "Sequential has no attention map")],
)
def test_a_model_without_maps_is_refused(model, match):
    with pytest.raises(UsageError, match=match), capture(model):
        pass


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit):
    with (
        pytest.raises(UsageError, match=f"limit must be at least 1, got {limit}"),
        capture(block("se", 3), limit=limit),
    ):
        pass


def test_reading_before_anything_was_recorded_says_so():
    with capture(Host("se")) as maps:
        for read in (
            lambda: maps["body.0.1/se.channel"],
            lambda: list(maps),
            lambda: maps.info("x"),
            lambda: dict(maps),
        ):
            with pytest.raises(UsageError, match="no map was recorded"):
                read()


def test_unknown_keys_are_named_and_the_mapping_keeps_its_word():
    model = nn.ModuleDict({"a": block("se", 3), "b": block("se", 3)})
    with capture(model) as maps:
        model["a"](pictures())
    with pytest.raises(UsageError, match=r"^unknown map 'a.chanel'; did you mean 'a.channel'\?"):
        maps["a.chanel"]
    with pytest.raises(UsageError, match=r"'b.channel' was not recorded.*recorded: a.channel"):
        maps["b.channel"]
    assert "b.channel" not in maps
    assert maps.get("nothing") is None
    assert len(maps) == 1


class Weights(AbstractTransform):
    """Softmax weights over positions."""

    def __init__(self):
        super().__init__(3)
        self.weights = MapTap("spatial", softmax=True)

    def transform(self, x):
        scores = x.mean(1, keepdim=True)
        return x + self.weights(scores.flatten(2).softmax(-1).view_as(scores))


class Pairs(nn.Module):
    """Shows given weights between positions."""

    def __init__(self, softmax):
        super().__init__()
        self.pairs = MapTap("pairwise", softmax=softmax)

    def forward(self, weights):
        return self.pairs(weights)


def test_the_effective_factor_of_a_gate():
    model = block("se", 3)
    model.start_as_identity()
    with capture(model) as maps:
        model(pictures(2))
        nn.init.constant_(model.strength, 0.25)
        y = model(pictures(3))
    raw, factor = maps["channel"], maps.effective("channel")
    assert torch.equal(factor[:2], torch.ones(2, 3, 1, 1))  # the strength was 0 then
    assert torch.allclose(factor[2:], 1 + 0.25 * (raw[2:] - 1))
    assert torch.allclose(pictures(3) * factor[2:], y)
    assert maps.info("channel").strength == 0.25


def test_the_effective_factor_of_softmax_weights_is_1_where_they_are_uniform():
    model = Weights()
    with capture(model) as maps:
        model(torch.zeros(2, 3, 4, 5))
        model(torch.rand(2, 3, 4, 5))
    assert torch.allclose(maps.effective("weights")[:2], torch.ones(2, 1, 4, 5))
    assert torch.allclose(maps.effective("weights")[2:].mean((1, 2, 3)), torch.ones(2))
    assert maps.info("weights").scale == (0.0, 4.0)


@pytest.mark.parametrize(("kind", "shape"), [("spatial", (2, 1, 4, 5)), ("full", (2, 3, 4, 5)), ("pool", (2, 2, 4, 5))])
def test_planes_average_over_channels(kind, shape):
    tap = MapTap(kind)
    values = torch.rand(shape)
    with capture(tap) as maps:
        tap(values)
    assert torch.allclose(maps.plane(kind), values.mean(1))


@pytest.mark.parametrize(
    ("aspect", "grid"), [(0.9, (3, 4)), (0.7, (3, 4)), (4 / 3, (4, 3)), (0.1, (1, 12)), (12.0, (12, 1))]
)
def test_planes_of_pairs_show_what_each_position_receives(aspect, grid):
    weights = torch.zeros(1, 12, 12)
    weights[:, :, 7] = 1  # all look at position 7
    model = Pairs(softmax=True)
    with capture(model) as maps:
        model(weights)
    plane = maps.plane("pairs", aspect=aspect)
    assert plane.shape[1:] == grid
    assert plane.flatten().tolist() == [0.0] * 7 + [12.0] + [0.0] * 4


def test_a_channel_map_has_no_plane():
    model = block("se", 3)
    with capture(model) as maps:
        model(pictures())
    with pytest.raises(UsageError, match="'channel' is a channel map"):
        maps.plane("channel")
