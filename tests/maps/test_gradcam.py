import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visattn.insertion.attend import attend
from visattn.maps.gradcam import grad_cam
from visattn.types import UsageError


class Net(nn.Module):
    def __init__(self, *, inplace=True):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.conv = nn.Conv2d(6, 5, 3, padding=1)
        self.act = nn.ReLU(inplace=inplace)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.drop(self.act(self.conv(self.stem(x)))).mean((2, 3)))


def pictures(n=3, side=12):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(n))


def by_hand(net, images, target):
    """The paper's formula from a model written out in float64, one picture at a time."""
    net = copy.deepcopy(net).double().eval()
    maps = []
    for image, k in zip(images.double(), target, strict=True):
        features = net.conv(net.stem(image[None])).detach().requires_grad_()
        score = net.head(F.relu(features).mean((2, 3)))[0, k]
        score.backward()
        alpha = features.grad[0].mean((1, 2))
        maps.append(torch.einsum("c,chw->hw", alpha, features.detach()[0]).clamp_min(0))
    return torch.stack(maps).float()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_the_formula(net):
    target = torch.tensor([0, 2, 3])
    maps = grad_cam(net, net.conv, pictures(), target)
    assert maps.dtype == torch.float32
    assert maps.max() > 0  # or the comparison shows nothing
    assert torch.allclose(maps, by_hand(net, pictures(), target), atol=1e-6)
    predicted = copy.deepcopy(net).eval()(pictures()).argmax(1)
    assert torch.equal(grad_cam(net, net.conv, pictures()), grad_cam(net, net.conv, pictures(), predicted))


@pytest.mark.parametrize("prepare", ["frozen", "no_grad", "inference", "compiled", "attended"])
def test_the_same_maps_where_gradients_are_off_or_graphs_compiled(net, prepare):
    images, expected = pictures(), grad_cam(net, net.conv, pictures())
    if prepare == "frozen":
        net.requires_grad_(False)
        maps = grad_cam(net, net.conv, images)
    elif prepare == "compiled":
        model = torch.compile(net.eval(), backend="eager")
        model(images)
        maps = grad_cam(model, net.conv, images)
    elif prepare == "attended":
        attend(net, "se", at="conv")
        maps = grad_cam(net, net.conv, images)
    else:
        with torch.no_grad() if prepare == "no_grad" else torch.inference_mode():
            maps = grad_cam(net, net.conv, images * 1)  # made here: an inference tensor in the last case
            assert not torch.is_grad_enabled()
    assert torch.allclose(maps, expected, atol=1e-6)


def test_nothing_is_disturbed(net):
    net.stem.eval()  # as where a backbone is frozen
    net.head.weight.requires_grad_(False)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    state, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    needs = [parameter.requires_grad for parameter in net.parameters()]
    generator, images = torch.get_rng_state(), pictures()
    grad_cam(net, net.conv, images)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), state.values(), strict=True))
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == needs
    assert [p.grad is None for p in net.parameters()] == [p is not net.conv.weight for p in net.parameters()]
    assert torch.equal(net.conv.weight.grad, torch.ones_like(net.conv.weight))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(images, pictures())
    assert not any(module._forward_hooks for module in net.modules())


class Twice(Net):
    def forward(self, x):
        return self.head(self.conv(self.stem(x)).mean((2, 3))) + self.conv(self.stem(x)).mean()


class Blind(Net):
    def forward(self, x):
        self.conv(self.stem(x))
        return self.head(x.mean((2, 3)).repeat(1, 2)[:, :5])


class Maps(Net):
    def forward(self, x):
        return self.conv(self.stem(x))


@pytest.mark.parametrize(
    ("model", "layer", "target", "match"),
    [
        (Net, "head", None, r"4-D output, Linear gives shape \(3, 4\)"),
        (Twice, "conv", None, "Conv2d ran 2 times"),
        (Maps, "conv", None, r"scores of shape \(N, classes\)"),
        (Net, "conv", [0, 1, 4], r"3 classes from 0 to 3, got \[0, 1, 4\]"),
        (Net, "conv", [0, 1], "target must hold 3 classes"),
        (Blind, "conv", None, "do not depend on the output of Conv2d"),
    ],
)
def test_errors_leave_the_model_as_it_was(model, layer, target, match):
    net = model()
    with pytest.raises(UsageError, match=match):
        grad_cam(net, getattr(net, layer), pictures(), None if target is None else torch.tensor(target))
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_that_does_not_run(net):
    with pytest.raises(UsageError, match="Conv2d ran 0 times"):
        grad_cam(net, nn.Conv2d(3, 3, 1), pictures())
