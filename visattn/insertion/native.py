"""The attention that a host comes with: found by its class, replaced by a block or taken out, and brought back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from visattn.insertion.wrapper import Attended, site_name

# Modules of timm and torchvision that return their input times gates, or plus a context. Told by name: importing
# the libraries here would cost every `import visattn` seconds. Selective kernels and split attention are not here:
# they stand in place of a convolution, and without them nothing would be left.
CLASSES = frozenset({
    "SEModule", "SqueezeExcite", "SqueezeExcitation", "EffectiveSEModule", "BlockESE", "EcaModule", "CecaModule",
    "CbamModule", "LightCbamModule", "GlobalContext", "GatherExcite", "CoordAttn", "SimpleCoordAttn",
    "EfficientLocalAttn", "StripAttn", "NonLocalAttn", "BatNonLocalAttn",
})  # fmt: skip


class Absent(nn.Module):
    """Stands where a host's own attention stood: returns its input, and keeps the module out of sight.

    The kept module has no part in parameters and state dicts, follows moves between devices and dtypes,
    and takes its keys from the host's own checkpoints, which so load strictly.
    """

    def __init__(self, kept: nn.Module) -> None:
        super().__init__()
        self._kept = (kept,)  # a tuple: a module as an attribute would be registered
        self.register_load_state_dict_pre_hook(_keep)  # type: ignore[no-untyped-call]
        self.train(kept.training)

    @property
    def kept(self) -> nn.Module:
        """The host's own module."""
        return self._kept[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` itself."""
        return x

    def train(self, mode: bool = True) -> Self:
        """Set the mode, of the kept module too."""
        self.kept.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.kept._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _keep(module: Absent, state: dict[str, Any], prefix: str, metadata: Any, strict: bool, *lists: list[str]) -> None:
    del metadata
    own = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
    if own:
        missing, unexpected = module.kept.load_state_dict(own, strict=False)
        if strict:
            lists[0].extend(prefix + key for key in missing)
            lists[1].extend(prefix + key for key in unexpected)


def absent(host: nn.Module) -> dict[str, Absent]:
    """Return what was taken out of ``host``, by the name of its place."""
    return {site_name(name): module for name, module in host.named_modules() if isinstance(module, Absent)}


def natives(host: nn.Module) -> dict[str, nn.Module]:
    """Return the host's own attention modules that are at work, outermost ones only, by name."""
    added = {id(m) for w in host.modules() if isinstance(w, Attended) for m in w.attention.modules()}
    found: dict[str, nn.Module] = {}
    for path, module in host.named_modules():
        name = site_name(path)
        inside = id(module) in added or any(name.startswith(f"{outer}.") for outer in found)
        if type(module).__name__ in CLASSES and not inside:
            found[name] = module
    return found
