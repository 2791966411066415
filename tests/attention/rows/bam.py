"""Rows of ``bam``."""

from __future__ import annotations

import torch.nn.functional as F
from cases import Case, Live, batch_norm, dense, sigmoid, values
from torch import Tensor, nn


def bam(module: nn.Module, x: Tensor, dilation: int = 4, add: bool = False) -> Tensor:
    p = values(module)
    channel = batch_norm(module, p, "mlp.1", dense(p, "mlp.0", x.mean((2, 3), keepdim=True)))
    channel = dense(p, "mlp.3", channel.clamp(min=0))
    spatial = batch_norm(module, p, "conv.1", dense(p, "conv.0", x)).clamp(min=0)
    for i in (3, 6):
        z = F.conv2d(spatial, p[f"conv.{i}.weight"], p[f"conv.{i}.bias"], padding=dilation, dilation=dilation)
        spatial = batch_norm(module, p, f"conv.{i + 1}", z).clamp(min=0)
    spatial = dense(p, "conv.9", spatial)
    if add:
        both = batch_norm(module, p, "mlp.4", channel) + batch_norm(module, p, "conv.10", spatial)
    else:
        both = channel * spatial
    return x + x * sigmoid(both)


NAMES = [
    *("ch_att.init_fc.fc", "ch_att.init_fc.bn", "ch_att.final_fc"),
    *("sp_att.init_conv.conv", "sp_att.init_conv.bn"),
    *("sp_att.dil_convs.conv1.conv", "sp_att.dil_convs.conv1.bn"),
    *("sp_att.dil_convs.conv2.conv", "sp_att.dil_convs.conv2.bn"),
    "sp_att.final_conv",
]


class Pytorchcv(nn.Module):
    """The block under pytorchcv's names, which load the authors' weights there."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        dilated = [nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4) for _ in range(2)]
        norms = [nn.BatchNorm2d(hidden) for _ in range(3)]
        channel = [nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, channels)]
        first, last = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, 1, 1)
        self.layers = [*channel, first, norms[0], dilated[0], norms[1], dilated[1], norms[2], last]
        for name, layer in zip(NAMES, self.layers, strict=True):
            *path, end = name.split(".")
            holder: nn.Module = self
            for step in path:
                if step not in dict(holder.named_children()):
                    holder.add_module(step, nn.Module())
                holder = holder.get_submodule(step)
            holder.add_module(end, layer)

    def forward(self, x: Tensor) -> Tensor:
        fc0, bn, fc1, *spatial, last = self.layers
        channel = fc1(bn(fc0(x.mean((2, 3)))).relu())[:, :, None, None]
        z = x
        for conv, norm in zip(spatial[::2], spatial[1::2], strict=True):
            z = norm(conv(z)).relu()
        return x * (1 + (channel * last(z)).sigmoid())


ROWS = [
    Case("bam", 32, 3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1, {"full": "full"}, bam),
    Case(
        "bam",
        32,
        3 * 32 * 2 + 32 + 18 * 4 + 13 * 2 + 1 + 2 * 32 + 2,
        {"full": "full"},
        lambda m, x: bam(m, x, add=True),
        {"combine": "add"},
    ),
    Case(
        "bam",
        6,
        3 * 6 * 3 + 6 + 18 * 9 + 13 * 3 + 1,
        {"full": "full"},
        lambda m, x: bam(m, x, dilation=2),
        {"reduction": 2, "dilation": 2},
    ),
    Case("bam", 6, 3 * 6 * 4 + 6 + 18 * 16 + 13 * 4 + 1, {"full": "full"}, bam, {"hidden": 4}),
]

REFUSED = [
    ({"reduction": 0}, "reduction must be at least 1, got 0"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"dilation": 0}, "dilation must be at least 1, got 0"),
    ({"combine": "sum"}, "unknown combine 'sum'; .*valid: mul, add"),
]

LIVE = [Live("bam", "pytorchcv's names", lambda: Pytorchcv(30, 4), 30)]
