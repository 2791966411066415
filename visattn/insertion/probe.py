"""What a host does with an image: a dry run at two sizes that finds channel axes, stages and residual ends.

One size cannot tell height from channels. Two sizes, neither square, different in both directions,
can: the axis that does not move is the channel axis. A host that takes one size only is run at that
one: there an ``(N, C, H, W)`` map is told by sides that are both a whole fraction of the image's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visattn.insertion.images import attempts
from visattn.insertion.trace import Seen, Trace
from visattn.types import UsageError

BACKBONE = "backbone"
# torchvision's finished detectors resize within, so nothing moves with the image; told by name: importing
# torchvision here would cost every `import visattn` a second
RESIZING = "GeneralizedRCNNTransform"
WHOLE = 0.1  # how far, in octaves, the stride of a map may be from a power of two where one size must tell


@dataclass
class Probe:
    """The record of the runs."""

    seen: dict[str, Seen]
    residual_ends: list[list[str]]  # for each residual addition, the modules that returned its branch
    images: tuple[Tensor, ...]
    root: str = ""  # the name of the part that was run

    @property
    def height(self) -> int:
        """The height of the larger image."""
        return self.images[-1].shape[2]

    @property
    def fixed(self) -> bool:
        """Whether the host takes one size of image only."""
        return len(self.images) == 1

    def is_map(self, name: str) -> bool:
        """Whether the module returns ``(N, C, H, W)`` with only H and W moving with the image."""
        return self.moves(self.seen[name].outputs) and not self.seen[name].pairs

    def moves(self, shapes: Sequence[tuple[int, ...] | None]) -> bool:
        """Whether ``shapes``, of one tensor in each run, are those of a map."""
        a, b = (shapes[0], shapes[-1]) if len(shapes) >= len(self.images) else (None, None)
        if a is None or b is None or not len(a) == len(b) == 4 or a[1] != b[1]:
            return False
        if self.fixed:
            octaves = [math.log2(side / size) for side, size in zip(self.images[0].shape[2:], a[2:], strict=True)]
            whole = all(abs(octave - round(octave)) < WHOLE for octave in octaves)
            return whole and round(octaves[0]) == round(octaves[1]) >= 0 and a[0] == 1 and a[1] != a[2]
        square = a[2] == a[3] and b[2] == b[3]  # weights between positions; neither image is square
        return a[2] != b[2] and a[3] != b[3] and not square

    def stage(self, name: str) -> int | None:
        """Return ``i`` for an output at stride ``2^(i + 1)`` (-1 at stride 1)."""
        shapes = self.seen[name].outputs
        small, large = shapes[0], shapes[-1]
        if small is None or large is None or not self.is_map(name):
            return None
        if self.fixed:
            return round(math.log2(self.height / large[2])) - 1
        # between the sizes, what a host cuts off at the borders falls out
        first, second = self.images[0].shape[2:], self.images[-1].shape[2:]
        octaves = [math.log2(abs(second[i] - first[i]) / abs(large[i + 2] - small[i + 2])) for i in (0, 1)]
        return round(sum(octaves) / 2) - 1


def probe(host: nn.Module, example: Tensor | None = None, *, one_size: bool = False) -> Probe:
    """Run ``host`` at two sizes in eval mode and leave it, its buffers and all generators as they were.

    A finished detector of torchvision's is run through its ``.backbone``.

    Args:
        host: the model.
        example: an input ``(N, C, H, W)``; its channels, dtype and device are taken, its size too
            if it is not square. By default an image of the host's own channels, 96x128 and 160x224.
        one_size: also take a host that takes one size only: that of ``example``, or the size it declares.

    Raises:
        UsageError: the host fails on such images.
    """
    root = BACKBONE if is_detector(host) else ""
    part = host.get_submodule(root)
    first_error: Exception | None = None
    tried = attempts(part, example, one_size=one_size)
    for images in tried:
        try:
            return _run(part, images, root)
        except Exception as error:
            first_error = first_error or error
    reason = str(first_error).splitlines()[0] if str(first_error) else type(first_error).__name__
    sizes = " and ".join(dict.fromkeys("x".join(map(str, images[0].shape[1:])) for images in tried))
    raise UsageError(
        f"{type(host).__name__} fails on trial images of {sizes} (C x H x W): {reason}; "
        "pass example= with an input that it takes"
    ) from first_error


def is_detector(host: nn.Module) -> bool:
    """Whether ``host`` is a finished detector of torchvision's, which resizes the images itself."""
    kinds = {kind.__name__ for kind in type(getattr(host, "transform", None)).__mro__}
    return RESIZING in kinds and isinstance(getattr(host, BACKBONE, None), nn.Module)


def _run(host: nn.Module, images: tuple[Tensor, ...], root: str) -> Probe:
    runs = []
    # what surrounds the call decides nothing: blocks take the precision of the features that they see here
    kind = images[0].device.type
    plain = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with undisturbed(host), torch.no_grad(), plain:
        for image in images:
            trace = Trace(host, f"{root}." if root else "")
            trace.run(image)
            runs.append(trace)
    first, *others = runs
    for other in others:
        for name, seen in first.seen.items():
            again = other.seen.get(name, Seen())
            seen.inputs += again.inputs
            seen.outputs += again.outputs
            seen.calls = max(seen.calls, again.calls)
            seen.passes &= again.passes
    found = Probe(first.seen, [], images, root)
    for ends in zip(*(run.additions for run in runs), strict=False):
        if ends[0][1] and found.moves([shape for shape, _ in ends]):
            found.residual_ends.append(ends[0][1])
    return found


@contextmanager
def undisturbed(host: nn.Module) -> Iterator[None]:
    """Put ``host`` into eval mode for a while; its modes, buffers and the generators come back as they were."""
    modes = {module: module.training for module in host.modules()}
    buffers = {module: dict(module._buffers) for module in host.modules()}
    values = {id(b): b.clone() for own in buffers.values() for b in own.values() if b is not None}
    devices = sorted({p.device.index or 0 for p in host.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        host.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
                # a run may lay new buffers, or others in their place
                module._buffers.clear()
                module._buffers.update(buffers[module])
            with torch.no_grad():
                for own in buffers.values():
                    for buffer in own.values():
                        if buffer is not None:
                            buffer.copy_(values[id(buffer)])
