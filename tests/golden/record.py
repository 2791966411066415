"""Record what the authors' own code gives, so that blocks can be compared with it where it is not at hand.

    python tests/golden/record.py --mirror FOLDER [record ...]

FOLDER holds a git directory for each repository, ``<owner>+<name>/repo`` or ``.../repo/.git``, whose HEAD is read.
Each entry of ``RECORDS`` gives a file ``<block>[-<form>].safetensors``: the weights under the authors' names, an
input, its output in eval and in training mode and, as metadata, where they come from. Every weight and running
statistic is first moved off its start, where many are exactly 0 or 1. The same commits, torch and kind of processor
give the committed files again, bit for bit.

The authors' code runs unchanged; this file and the records hold only names and numbers of it. What joins it to the
shapes that our blocks take and return is a record's ``run``. Beyond the stand-ins of ``authors.py``, ``Tensor.cuda``
stays on the CPU, the networks for bags are built smaller, and one name is given a value: ``MODELS/bam.py`` of
Jongchan/attention-module reads ``gate_activation``, which nothing there defines and nothing there uses. The authors
of ``a2`` and ``ela`` have published no code; the two records are of others' ports.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from authors import Repository, imported
from torch import Tensor, nn

LICENCES = {  # as found in the repositories
    (MIL := "AMLab-Amsterdam/AttentionDeepMIL"): "MIT",
    (ECANET := "BangguWu/ECANet"): "MIT",
    (CPCANET := "Cuthbert-Huang/CPCANet"): "Apache-2.0",
    (PSA := "DeLightCMU/PSA"): "Apache-2.0",
    (SCSA := "HZAI-ZJNU/SCSA"): "Apache-2.0",
    (JONGCHAN := "Jongchan/attention-module"): "MIT",
    (PKINET := "NUST-Machine-Intelligence-Laboratory/PKINet"): "Apache-2.0",
    (VAN := "Visual-Attention-Network/VAN-Classification"): "Apache-2.0",
    (EMA := "YOLOonMe/EMA-attention-module"): "none",
    (SIMAM := "ZjjConan/SimAM"): "none",
    (AIMED := "ai-med/squeeze_and_excitation"): "MIT",
    (PORTS := "changzy00/pytorch-attention"): "MIT",
    (FCANET := "cfzd/FcaNet"): "MIT",
    (CONVNEXT := "facebookresearch/ConvNeXt-V2"): "MIT",
    (COORD := "houqb/CoordAttention"): "MIT",
    (SRM := "hyunjaelee410/style-based-recalibration-module"): "none",
    (INSIGHT := "implus/PytorchInsight"): "none",
    (DANET := "junfu1115/DANet"): "MIT",
    (TRIPLET := "landskape-ai/triplet-attention"): "MIT",
    (MMCV := "open-mmlab/mmcv"): "Apache-2.0",
    (CLIP := "openai/CLIP"): "MIT",
    (CCNET := "speedinghzl/CCNet"): "MIT",
    (MLCA := "wandahangFY/MLCA"): "GPL-3.0",
    (SANET := "wofmanaf/SA-Net"): "none",
    (GCNET := "xvjiarui/GCNet"): "Apache-2.0",
    (GCT := "z-x-yang/GCT"): "none",  # none at the root and in PyTorch/
    (RESNEST := "zhanghang1989/ResNeSt"): "Apache-2.0",
}


@dataclass(frozen=True)
class Record:
    name: str  # <block>[-<form>]
    repository: str
    path: str
    build: Callable[[Any], nn.Module]  # from the imported file
    shape: tuple[int, int, int, int] = (3, 16, 7, 5)
    keywords: Mapping[str, Any] = field(default_factory=dict)  # of our block, beyond what the weights' shapes tell
    run: Callable[[Any, Tensor], Tensor] = lambda module, x: module(x)
    level: float = 1.0  # of the input: a softmax over large sums is 0 or 1 everywhere


def channels_last(module: nn.Module, x: Tensor) -> Tensor:
    return module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def as_bags(module: nn.Module, x: Tensor) -> Tensor:
    """Take the positions of each sample for the instances of a bag."""
    bags = F.pad(x.flatten(2).transpose(1, 2), (0, 800 - x.shape[1]))  # to the length that it reshapes to
    return torch.cat([module(bag[None])[0] for bag in bags])


class First16(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :16]


def pooling_alone(cls: type[nn.Module]) -> nn.Module:
    """Build a network for bags without its feature extractor and classifier; its own 500 x 128 would be too large."""
    sizes = {"M": property(lambda _: 16, lambda *_: None), "L": property(lambda _: 8, lambda *_: None)}
    module = type(cls.__name__, (cls,), sizes)()  # the constructor sets M and L, in vain
    module.feature_extractor_part1, module.feature_extractor_part2 = nn.Identity(), First16()
    module.classifier = nn.Identity()
    return module


def both_parts(file: Any) -> nn.Module:
    return nn.ModuleDict({"sa": file.PAM_Module(16), "sc": file.CAM_Module(16)})


def bam(file: Any) -> nn.Module:
    file.gate_activation = None
    return file.BAM(32)


C16, DOUBLE = {"channels": 16}, "attention_mechanisms/double_attention.py"
WIDE, SQUARE, LARGE, EVEN = (3, 32, 7, 5), (3, 32, 7, 7), (2, 16, 15, 9), (3, 16, 8, 6)
NON_LOCAL, CONTEXT = "mmcv/cnn/bricks/non_local.py", "mmdet/ops/gcb/context_block.py"
POSITIONS, CROSS = "encoding/nn/da_att.py", "cc_attention/functions.py"
POLARIZED, MODULES = "semantic-segmentation/network/PSA.py", "networks/attentions/simam_module.py"
SPLAT, BN = "resnest/torch/models/splat.py", nn.BatchNorm2d
INSIGHTS, AIMEDS = "classification/models/imagenet/resnet_{}.py", "squeeze_and_excitation/squeeze_and_excitation.py"
RECORDS = [
    Record("se", AIMED, AIMEDS, lambda m: m.ChannelSELayer(16, 4)),
    Record("se-insight", INSIGHT, INSIGHTS.format("se"), lambda m: m.SELayer(16, 4)),
    Record("eca", ECANET, "models/eca_module.py", lambda m: m.eca_layer(16, 5), keywords=C16),
    Record("srm", SRM, "models/recalibration_modules.py", lambda m: m.SRMLayer(16)),
    Record("gct", GCT, "PyTorch/GCT.py", lambda m: m.GCT(16)),
    Record("gct-l1", GCT, "PyTorch/GCT.py", lambda m: m.GCT(16, mode="l1"), keywords={"mode": "l1"}),
    Record("fca", FCANET, "model/layer.py", lambda m: m.MultiSpectralAttentionLayer(16, 7, 7, 4), LARGE),
    Record("grn", CONVNEXT, "models/utils.py", lambda m: m.GRN(16), run=channels_last),
    Record("mlca", MLCA, "MLCA.py", lambda m: m.MLCA(16), (3, 16, 9, 6), C16),
    Record("spatial_gate", JONGCHAN, "MODELS/cbam.py", lambda m: m.SpatialGate(), keywords=C16),
    Record("sse", AIMED, AIMEDS, lambda m: m.SpatialSELayer(16)),
    Record("sge", INSIGHT, INSIGHTS.format("sge"), lambda m: m.SpatialGroupEnhance(8), keywords=C16),
    Record("lka", VAN, "models/van.py", lambda m: m.LKA(16), (3, 16, 9, 6)),
    Record("lka-module", VAN, "models/van.py", lambda m: m.Attention(16), (3, 16, 9, 6)),
    Record("caa", PKINET, "mmrotate/models/backbones/pkinet.py", lambda m: m.CAA(16), run=lambda m, x: x * m(x)),
    Record("cbam", JONGCHAN, "MODELS/cbam.py", lambda m: m.CBAM(32, 8), WIDE),
    Record("bam", JONGCHAN, "MODELS/bam.py", bam, SQUARE),
    Record("bam-insight", INSIGHT, INSIGHTS.format("bam"), lambda m: m.BAM(32), SQUARE),
    Record("scse", AIMED, AIMEDS, lambda m: m.ChannelSpatialSELayer(16)),
    Record("coordatt", COORD, "coordatt.py", lambda m: m.CoordAtt(16, 16)),
    Record("coordatt-mobilenet", COORD, "mbv2_ca.py", lambda m: m.CoordAtt(16, 16)),
    Record("triplet", TRIPLET, "triplet_attention.py", lambda m: m.TripletAttention(), keywords=C16),
    Record("triplet-two", TRIPLET, "triplet_attention.py", lambda m: m.TripletAttention(True), keywords=C16),
    Record("triplet-models", TRIPLET, "MODELS/triplet_attention.py", lambda m: m.TripletAttention(16), keywords=C16),
    Record("simam", SIMAM, MODULES, lambda m: m.simam_module()),
    Record("simam-released", SIMAM, MODULES, lambda m: m.simam_module(e_lambda=0.1), keywords={"e_lambda": 0.1}),
    Record("shuffle", SANET, "models/sa_resnet.py", lambda m: m.sa_layer(32, 4), WIDE, {"channels": 32}),
    Record("polarized-parallel", PSA, POLARIZED, lambda m: m.PSA_p(16, 16)),
    Record("polarized-sequential", PSA, POLARIZED, lambda m: m.PSA_s(32, 32), WIDE),
    Record("ela", SCSA, "mmpretrain/models/attentions/ELA.py", lambda m: m.ELA(32), WIDE),
    Record("ema", EMA, "EMA_attention_module", lambda m: m.EMA(16, factor=4), keywords=C16),
    Record("scsa", SCSA, "mmpretrain/models/attentions/SCSA.py", lambda m: m.SCSA(16, 4), LARGE, {"heads": 4}),
    Record("cpca", CPCANET, "CPCANet/nnunet/network_architecture/CPCANet.py", lambda m: m.RepBlock(16, 16)),
    Record("splat", RESNEST, SPLAT, lambda m: m.SplAtConv2d(16, 16, 3, 1, 1, bias=False, norm_layer=BN)),
    Record("splat-groups", RESNEST, SPLAT, lambda m: m.SplAtConv2d(16, 16, 3, 1, 1, 1, 2, False, norm_layer=BN)),
    Record("nonlocal", MMCV, NON_LOCAL, lambda m: m.NonLocal2d(16, norm_cfg={"type": "BN"}), level=0.5),
    Record("nonlocal-pooled", MMCV, NON_LOCAL, lambda m: m.NonLocal2d(16, sub_sample=True), EVEN, level=0.5),
    *(
        Record(f"nonlocal-{mode}", MMCV, NON_LOCAL, build, keywords={"mode": mode}, level=0.5)
        for mode in ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
        for build in [lambda m, mode=mode: m.NonLocal2d(16, mode=mode)]
    ),
    Record("gc", GCNET, CONTEXT, lambda m: m.ContextBlock(16, 1 / 4)),
    Record("gc-mul", GCNET, CONTEXT, lambda m: m.ContextBlock(16, 1 / 4, "att", ["channel_mul"])),
    Record("gc-avg", GCNET, CONTEXT, lambda m: m.ContextBlock(16, 1 / 4, "avg")),
    Record("a2", PORTS, DOUBLE, lambda m: m.DoubleAttention(16, 8, 6), run=lambda m, x: x + m(x)),
    Record("danet", DANET, POSITIONS, both_parts, run=lambda m, x: m["sa"](x) + m["sc"](x) - x, level=0.5),
    Record("danet-position", DANET, POSITIONS, lambda m: m.PAM_Module(16)),
    Record("danet-channel", DANET, POSITIONS, lambda m: m.CAM_Module(16), keywords=C16, level=0.3),
    Record("cc", CCNET, CROSS, lambda m: m.CrissCrossAttention(16), run=lambda m, x: m(m(x))),
    Record("cc-once", CCNET, CROSS, lambda m: m.CrissCrossAttention(16), keywords={"recurrence": 1}),
    Record("additive", MIL, "model.py", lambda m: pooling_alone(m.Attention), run=as_bags),
    Record("gated", MIL, "model.py", lambda m: pooling_alone(m.GatedAttention), run=as_bags),
    Record(
        "attention_pool2d", CLIP, "clip/model.py", lambda m: m.AttentionPool2d(5, 32, 4), (3, 32, 5, 5), {"heads": 4}
    ),
]


def perturb(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape))
        elif name.endswith("running_mean") or isinstance(value, nn.Parameter):
            value.add_(0.3 * torch.randn(value.shape))


@torch.no_grad()
def recorded(record: Record, mirror: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    source = Repository(mirror, record.repository)
    torch.manual_seed(0)
    with imported(record.path, source, Repository(mirror, MMCV)) as file:
        module = record.build(file)
    perturb(module)
    levels = torch.linspace(0.5, 1.5, record.shape[1])[:, None, None]
    x = record.level * (torch.randn(record.shape) * levels + 0.3)
    with mock.patch.object(Tensor, "cuda", Tensor.cpu):
        y, y_training = (record.run(copy.deepcopy(module).train(mode), x.clone()) for mode in (False, True))
    state = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    facts = {
        "block": record.name.split("-")[0],
        "keywords": json.dumps(record.keywords),
        "repository": record.repository,
        "commit": source.commit,
        "path": record.path,
        "licence": LICENCES[record.repository],
        "torch": torch.__version__,
    }
    weights = {f"weights.{key}": value for key, value in state.items()}
    return {**weights, "x": x, "y": y, "y_training": y_training}, facts


def serialised(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """Return a safetensors file; the package's own writer orders the metadata differently in each run."""
    header: dict[str, Any] = {"__metadata__": facts}
    data = b""
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("records", nargs="*", metavar="record", help="all of them by default")
    args = parser.parse_args()
    if unknown := set(args.records) - {record.name for record in RECORDS}:
        parser.error(f"unknown {', '.join(unknown)}; valid: {', '.join(record.name for record in RECORDS)}")
    warnings.simplefilter("ignore")  # of old code under a new torch
    torch.set_num_threads(1)
    for record in RECORDS:
        if not args.records or record.name in args.records:
            content = serialised(*recorded(record, args.mirror))
            (args.out / f"{record.name}.safetensors").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()[:12]
            sys.stdout.write(f"{record.name:24} {len(content) / 1000:6.1f} kB  {digest}  {record.repository}\n")


if __name__ == "__main__":
    main()
