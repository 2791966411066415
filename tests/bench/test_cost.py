import json
import time

import pytest
import torch
from torch import Tensor, nn

import visattn.bench
from visattn.attention import block
from visattn.bench import clock
from visattn.bench.cost import count_macs, count_saved_bytes, measure_cost
from visattn.types import UsageError

SIZE, BATCH = 8, 3
TIMES = [f"{name}_{what}" for name in ("latency", "train") for what in ("ms", "ratio", "ratio_low", "ratio_high")]


def conv() -> nn.Module:
    return nn.Conv2d(3, 4, 3, padding=1, bias=False)


class Spy(nn.Module):
    """Writes down each call, and can be slow."""

    def __init__(self, label: str, log: list, seconds: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.label, self.log, self.seconds = label, log, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.log.append((self.label, self.training, torch.is_grad_enabled(), tuple(x.shape)))
        time.sleep(self.seconds)
        return x * self.weight


def measure(arms: dict, **changes: object) -> dict:
    return measure_cost(arms, **{"image_size": SIZE, "batch": BATCH, "device": "cpu", "rounds": 3, **changes})


# model, input shape, multiply-adds by hand: outputs x inputs of each
MACS = {
    "conv": (nn.Conv2d(3, 8, 3), (1, 3, 10, 12), 8 * (8 * 10) * (3 * 9)),
    "strided": (nn.Conv2d(3, 8, 5, stride=2, padding=2), (1, 3, 10, 12), 8 * (5 * 6) * (3 * 25)),
    "grouped": (nn.Conv2d(8, 8, 3, padding=1, groups=4), (1, 8, 7, 7), 8 * 49 * (2 * 9)),
    "batch": (nn.Conv2d(3, 8, 1), (5, 3, 4, 4), 5 * 8 * 16 * 3),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), (1, 3, 4, 4), 48 * 7),
    "se": (block("se", 16, reduction=4), (1, 16, 9, 9), 2 * 16 * 4),
    "none": (nn.ReLU(), (1, 3, 4, 4), 0),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_are_those_of_the_formula(name):
    model, shape, expected = MACS[name]
    assert count_macs(model, torch.zeros(shape)) == expected


def test_counting_macs_leaves_mode_and_statistics_alone():
    model = nn.Sequential(conv(), nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4))
    count_macs(model, torch.randn(2, 3, 4, 4))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert model[2].running_mean.eq(0).all()


IMAGES, FEATURES = BATCH * 3 * SIZE**2 * 4, BATCH * 4 * SIZE**2 * 4
SAVED = {
    # a convolution keeps its input and its weight, a ReLU its output, a batch norm its input, mean and deviation
    "conv": ([conv()], IMAGES),
    "relu": ([conv(), nn.ReLU()], IMAGES + FEATURES),
    "shared": ([conv(), nn.ReLU(), nn.Conv2d(4, 4, 1)], IMAGES + FEATURES),
    "norm": ([conv(), nn.BatchNorm2d(4), nn.ReLU()], IMAGES + 2 * FEATURES + 2 * 4 * 4),
    "inplace": ([conv(), nn.BatchNorm2d(4), nn.ReLU(inplace=True)], IMAGES + 2 * FEATURES + 2 * 4 * 4),
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_bytes_are_those_of_the_tensors_kept(name):
    modules, expected = SAVED[name]
    model, images = nn.Sequential(*modules), torch.randn(BATCH, 3, SIZE, SIZE)
    assert count_saved_bytes(model, images) == expected
    with torch.no_grad():
        assert count_saved_bytes(model, images) == expected


def test_the_result_has_the_form_of_cost_json():
    built = []

    def build(width: int) -> nn.Module:
        built.append(width)
        return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2, 1))

    result = measure({"none": lambda: build(4), "wide": lambda: build(8)})
    assert json.loads(json.dumps(result)) == result
    assert {key: value for key, value in result.items() if key not in {"arms", "threads"}} == {
        "image_size": SIZE,
        "batch": BATCH,
        "device": "cpu",
        "rounds": 3,
    }
    assert list(result["arms"]) == ["none", "wide"]
    assert built == [4, 8]
    for label, width in (("none", 4), ("wide", 8)):
        facts = result["arms"][label]
        assert set(facts) == {"parameters", "macs", "saved_bytes", *TIMES}
        assert facts["parameters"] == (27 * width + width) + (2 * width + 2)
        assert facts["macs"] == SIZE**2 * (27 * width + 2 * width)
        assert facts["saved_bytes"] == IMAGES + FEATURES * width // 4
        for name in ("latency", "train"):
            assert 0 < facts[f"{name}_ratio_low"] <= facts[f"{name}_ratio"] <= facts[f"{name}_ratio_high"]
    assert all(result["arms"]["none"][name] == 1 for name in TIMES if "ratio" in name)


def test_arms_take_turns_at_one_image_without_gradient_then_at_the_batch_with(monkeypatch):
    monkeypatch.setattr(clock, "SHORTEST", 0.0)  # one call a timing
    log: list = []
    measure({label: lambda label=label: Spy(label, log) for label in "abc"}, rounds=4)
    turns = "abc" * 4
    infer = [entry for entry in log if not entry[1]]
    train = [entry for entry in log if entry[1]]
    assert "".join(label for label, *_ in infer[-12:]) == "".join(label for label, *_ in train[-12:]) == turns
    assert {(grad, shape) for _, _, grad, shape in infer} == {(False, (1, 3, SIZE, SIZE))}
    assert {(grad, shape) for _, _, grad, shape in train} == {(True, (BATCH, 3, SIZE, SIZE))}
    assert log[-12:] == train[-12:]


def test_a_slow_arm_is_told_by_its_ratio_and_quick_calls_are_repeated(monkeypatch):
    monkeypatch.setattr(clock, "SHORTEST", 0.01)
    log: list = []
    arms = {"quick": lambda: Spy("quick", log, 0.002), "slow": lambda: Spy("slow", log, 0.012)}
    facts = measure(arms, rounds=3)["arms"]
    # asleep, not at work: a busy machine moves this little, and the bounds are wide
    for name in ("latency", "train"):
        assert 1.5 < facts["slow"][f"{name}_ratio"] < 12
        assert facts["quick"][f"{name}_ms"] >= 2
        assert facts["slow"][f"{name}_ms"] >= 12
    calls = [label for label, *_ in log]
    assert calls.count("quick") > calls.count("slow") + 2 * 3


def test_a_training_step_moves_the_weights():
    models: list[nn.Module] = []

    def build() -> nn.Module:
        models.append(conv())
        start.append(models[0].weight.detach().clone())
        return models[0]

    start: list[Tensor] = []
    measure({"none": build}, rounds=1)
    assert not torch.equal(models[0].weight, start[0])
    assert torch.allclose(models[0].weight, start[0], atol=1e-2)


def test_nested_outputs_train_whole():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(), conv()

        def forward(self, x: Tensor) -> dict:
            return {"main": self.a(x), "more": [self.b(x), (self.b(x),)]}

    models: list[nn.Module] = []
    measure({"two": lambda: models.append(Two()) or models[0]}, rounds=1)
    assert all(parameter.grad is not None for parameter in models[0].parameters())


def test_progress_tells_each_round_and_the_generator_and_threads_stay():
    seen: list = []
    before, state = torch.get_num_threads(), torch.get_rng_state()
    result = measure({"none": conv}, rounds=2, threads=before + 1, progress=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert result["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


BAD = [
    ({"arms": {}}, "at least one arm"),
    ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ({"batch": -1}, "batch must be at least 1"),
    ({"image_size": 0}, "image_size must be at least 1"),
    ({"channels": 0}, "channels must be at least 1"),
    ({"threads": 0}, "threads must be at least 1"),
    ({"device": "tpu9"}, "device 'tpu9' is not there; valid: cpu"),
    ({"device": "cuda:99"}, "device 'cuda:99' is not there; valid: cpu"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input_is_named_in_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        measure(changes.pop("arms", {"none": conv}), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_peak_memory_is_the_arms_own():
    facts = measure({"none": conv, "same": conv}, device="cuda")["arms"]
    assert facts["none"]["peak_bytes"] >= IMAGES
    assert facts["same"]["peak_bytes"] == pytest.approx(facts["none"]["peak_bytes"], rel=0.5)


def test_the_package_offers_the_function():
    assert visattn.bench.measure_cost is measure_cost
    with pytest.raises(AttributeError, match="nothing"):
        _ = visattn.bench.nothing
