"""What ``benchmarks/hosts.py`` shows of one host, and of one block in it."""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from hosts_table import Host, build
from torch import Tensor, nn

from visattn.insertion.attend import attend, detach, insert, sites
from visattn.insertion.probe import is_detector, probe
from visattn.insertion.spec import parse
from visattn.insertion.wrapper import attended
from visattn.types import UsageError

BATCH, SMALL = 2, 64
STEPS = 3  # one is enough unless stochastic depth drops a branch for the whole batch
EXPORTED = "se"  # the block with which the host is exported
PROVEN = ("fp32", "bf16", "keys", "trained", "detached")


class Bench:
    """A host in fp32 and in bf16, what it computes, and the record of one trial run of each."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.model = build(host)
        self.half = copy.deepcopy(self.model).to(torch.bfloat16)
        self.images = torch.randn(BATCH, 3, host.size, host.size, generator=torch.Generator().manual_seed(1))
        self.state = copy.deepcopy(self.model.state_dict())  # with its versions, which MNASNet asks for
        with torch.no_grad():
            self.outputs, self.half_outputs = self.run(), self.run_half()
        # a smaller image than the usual makes the check after each insertion shorter
        small = torch.zeros(1, 3, SMALL, SMALL) if host.size == SMALL else None
        self.record = probe(self.model, small, one_size=True)
        self.half_record = probe(self.half, None if small is None else small.bfloat16(), one_size=True)

    def run(self) -> list[Tensor]:
        """Return what the host computes, as a list of tensors."""
        images = self.images
        return _tensors(self.model([*images.sigmoid()] if is_detector(self.model) else images))

    def run_half(self) -> list[Tensor]:
        """Return the same in bf16; of a detector its backbone, since torchvision's boxes know no bf16."""
        part = self.half.backbone if is_detector(self.half) else self.half
        return _tensors(part(self.images.to(torch.bfloat16)))

    def loss(self) -> Tensor:
        """Return the loss of one batch in training mode."""
        if is_detector(self.model):
            box = torch.tensor([[5.0, 5.0, self.host.size - 5.0, self.host.size - 5.0]])
            targets = [{"boxes": box, "labels": torch.tensor([1])} for _ in range(BATCH)]
            return torch.stack([*self.model([*self.images.sigmoid()], targets).values()]).sum()
        labels = torch.arange(BATCH)
        return torch.stack([F.cross_entropy(y.flatten(1), labels) for y in _tensors(self.model(self.images))]).sum()

    def facts(self) -> dict[str, Any]:
        """Return the host's row: its sites by word, and whether it exports with a block in it."""
        found = sites(self.model)
        count = {word: sum(word in site.placement.split(", ") for site in found) for word in ("residual", "stages")}
        start = time.perf_counter()
        paper = attend(self.model, EXPORTED)
        return {
            "host": self.host.name,
            "family": self.host.family,
            "parameters": sum(value.numel() for value in self.model.parameters()),
            **count,
            "paper": len(paper),
            "placement": paper[0].placement,
            "fixed": self.record.fixed,
            "attend_s": round(time.perf_counter() - start, 2),
            **self._export(),
        }

    def _export(self) -> dict[str, Any]:
        """Export the attended host, compare, and detach."""
        part = self.model.backbone if is_detector(self.model) else self.model
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = torch.export.export(part, (self.images,), strict=False).module()
                pairs = list(zip(_tensors(graph(self.images)), _tensors(part(self.images)), strict=True))
            reason = "" if all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs) else "outputs differ"
        except Exception as error:  # whatever the exporter raises is the finding
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
        finally:
            detach(self.model)
        return {"exported": not reason, "export_error": reason}

    def check(self, block: str) -> dict[str, Any]:
        """Return the row of ``block`` in this host: what was proven, or why it was refused."""
        row: dict[str, Any] = {"host": self.host.name, "block": block}
        start = time.perf_counter()
        try:
            placed = insert(self.model, self.record, parse(block))
        except UsageError as error:
            return {**row, "refused": str(error), "seconds": round(time.perf_counter() - start, 2)}
        keys, now = list(self.state), list(self.model.state_dict())
        with torch.no_grad():
            row["fp32"] = _equal(self.run(), self.outputs)
        row["keys"] = [key for key in now if key in self.state] == keys and len(now) > len(keys)
        row["trained"] = self._train()
        self.model.load_state_dict(self.state)  # the host's own checkpoint, strictly
        detach(self.model)
        with torch.no_grad():
            row["detached"] = list(self.model.state_dict()) == keys and _equal(self.run(), self.outputs)
        row["bf16"] = self._half(block)
        return {**row, "sites": len(placed), "seconds": round(time.perf_counter() - start, 2)}

    def _train(self) -> bool:
        """Take a step, or a few; whether loss and gradients are finite and each block moves."""
        blocks = [block for wrapper in attended(self.model).values() for block in wrapper.attention.values()]
        optimiser = torch.optim.SGD(self.model.parameters(), lr=0.01)
        finite, still = True, set(blocks)
        self.model.train()
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = self.loss()
            loss.backward()
            gradients = [p.grad for block in blocks for p in block.parameters()]
            finite &= bool(loss.isfinite()) and all(g is not None and bool(g.isfinite().all()) for g in gradients)
            still = {block for block in still if not any(p.grad.any() for p in block.parameters())}
            optimiser.step()
            if not still:
                break
        optimiser.zero_grad()
        self.model.eval()
        return finite and not still

    def _half(self, block: str) -> bool:
        insert(self.half, self.half_record, parse(block))
        with torch.no_grad():
            same = _equal(self.run_half(), self.half_outputs)
        detach(self.half)
        return same


def refusal(host: Host) -> str:
    """Return why a host without maps is refused, or an empty text if it is not."""
    model: nn.Module = build(host)
    try:
        attend(model, "se")
    except UsageError as error:
        return str(error)
    return ""


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in what a host returned, whatever it is made of."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for each in inner for tensor in _tensors(each)]
