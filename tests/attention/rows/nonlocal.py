"""Rows of ``nonlocal``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases import Case, Live, batch_norm, dense, values
from timm.layers import create_attn
from torch import Tensor, nn


def nonlocal_(module: nn.Module, x: Tensor) -> Tensor:
    p = values(module)

    def embed(name: str, z: Tensor) -> Tensor:
        return dense(p, name, z) if f"{name}.weight" in p else z

    def pool(z: Tensor) -> Tensor:
        # an odd side is filled up with -inf, which no maximum is
        return F.max_pool2d(F.pad(z, (0, z.shape[3] % 2, 0, z.shape[2] % 2), value=-torch.inf), 2)

    before = pool(x) if module.subsample == "before" else x
    theta, phi, g = embed("theta", x), embed("phi", before), dense(p, "g", before)
    if module.subsample == "after":
        phi, g = pool(phi), pool(g)
    theta, phi, g = theta.flatten(2), phi.flatten(2), g.flatten(2)
    dots = torch.einsum("nci,ncj->nij", theta, phi)
    if module.mode == "concatenation":
        n, _, rows, columns = (*theta.shape, phi.shape[2])
        left, right = theta[:, :, :, None].expand(-1, -1, -1, columns), phi[:, :, None, :].expand(-1, -1, rows, -1)
        weights = dense(p, "pair", torch.cat([left, right], dim=1)).view(n, rows, columns).clamp(min=0) / columns
    elif module.mode == "dot_product":
        weights = dots / phi.shape[2]
    else:
        weights = torch.exp(dots * module.scale - (dots * module.scale).amax(2, keepdim=True))
        weights = weights / weights.sum(2, keepdim=True)
    z = dense(p, "out", torch.einsum("nij,ncj->nci", weights, g).view(x.shape[0], -1, *x.shape[2:]))
    return x + (batch_norm(module, p, "norm", z) if "norm.weight" in p else z)


class Clips(nn.Module):
    """The block on clips of one image, all biases included, with the names of a SlowFast checkpoint."""

    softmax = False

    def __init__(self) -> None:
        super().__init__()
        self.conv_theta, self.conv_phi, self.conv_g = (nn.Conv3d(8, 4, 1) for _ in range(3))
        self.conv_out, self.norm = nn.Conv3d(4, 8, 1), nn.BatchNorm3d(8)

    def forward(self, x: Tensor) -> Tensor:
        clip = x.unsqueeze(2)
        theta, phi, g = (layer(clip).flatten(2) for layer in (self.conv_theta, self.conv_phi, self.conv_g))
        dots = torch.einsum("nci,ncj->nij", theta, phi)
        weights = (dots / 2).softmax(2) if self.softmax else dots / dots.shape[2]
        mixed = torch.einsum("nij,ncj->nci", weights, g).unflatten(2, clip.shape[2:])
        return (clip + self.norm(self.conv_out(mixed))).squeeze(2)


class Blobs(Clips):
    """The same with the names of a Caffe2 checkpoint, and a softmax."""

    softmax = True

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:
        ends = {"running_mean": "rm", "running_var": "riv", "weight": "s", "bias": "b"}
        blobs = {}
        for key, value in super().state_dict().items():
            module, end = key.split(".")
            if module == "norm" and end in ends:
                blobs[f"bn_{ends[end]}"] = value
            elif module != "norm":
                blobs[f"{module.removeprefix('conv_')}_{end[0]}"] = value
        return blobs


class Cells(nn.Module):
    """The block with mmcv's names under ``sub_sample`` and a norm; the max-pool keeps the ends of odd sides."""

    def __init__(self) -> None:
        super().__init__()
        self.g, self.phi = (nn.Sequential(nn.ModuleDict({"conv": nn.Conv2d(8, 4, 1)})) for _ in range(2))
        self.theta = nn.ModuleDict({"conv": nn.Conv2d(8, 4, 1)})
        self.conv_out = nn.ModuleDict({"conv": nn.Conv2d(4, 8, 1, bias=False), "bn": nn.BatchNorm2d(8)})

    def forward(self, x: Tensor) -> Tensor:
        phi, g = (F.max_pool2d(m[0]["conv"](x), 2, ceil_mode=True).flatten(2) for m in (self.phi, self.g))
        weights = (self.theta["conv"](x).flatten(2).mT @ phi / 2).softmax(2)
        mixed = (weights @ g.mT).mT.unflatten(2, x.shape[2:])
        return x + self.conv_out["bn"](self.conv_out["conv"](mixed))


PAIRWISE = {"pairwise": "pairwise"}
ROWS = [
    Case("nonlocal", 16, 4 * 16 * 8 + 8 + 2 * 16, PAIRWISE, nonlocal_),
    Case("nonlocal", 9, 4 * 9 * 4 + 3 * 4 - 4 + 9, PAIRWISE, nonlocal_, {"norm": "none", "subsample": "before"}),
    Case("nonlocal", 9, 4 * 9 * 4 + 4 + 2 * 9, PAIRWISE, nonlocal_, {"subsample": "after", "scale": 0.25}),
    Case("nonlocal", 9, 2 * 9 * 3 + 2 * 9, PAIRWISE, nonlocal_, {"mode": "gaussian", "reduction": 3, "scale": 0.2}),
    Case("nonlocal", 9, 4 * 9 * 4 + 3 * 4 + 2 * 9, PAIRWISE, nonlocal_, {"mode": "dot_product"}),
    Case(
        "nonlocal",
        6,
        4 * 6 * 3 + 3 * 3 + 6,
        PAIRWISE,
        nonlocal_,
        {"mode": "dot_product", "subsample": "after", "norm": "none"},
    ),
    Case("nonlocal", 9, 4 * 9 * 5 + 3 * 5 + 2 * 5 + 2 * 9, PAIRWISE, nonlocal_, {"mode": "concatenation", "inner": 5}),
]

REFUSED = [
    ({"mode": "embeded_gaussian"}, "unknown mode 'embeded_gaussian'; did you mean 'embedded_gaussian'"),
    ({"subsample": "both"}, "unknown subsample 'both'; valid: none, before, after"),
    ({"norm": "layer"}, "unknown norm 'layer'; valid: batch, none"),
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"mode": "dot_product", "scale": 0.5}, "scale must be None for mode dot_product, which has no softmax, got 0.5"),
]

LIVE = [
    Live("nonlocal", "mmcv-cells", Cells, 8),
    Live("nonlocal", "slowfast", Clips, 8, {"mode": "dot_product"}),
    Live("nonlocal", "caffe2", Blobs, 8),
    Live("nonlocal", "timm", lambda: create_attn("nl", 64), 64, {"scale": 64**-0.5}),
]
