"""The module that stands at a site: the host's own module, and blocks before or after it.

A forward hook would be lost in ``convert_sync_batchnorm`` and a class swap would break pickle. A
wrapper keeps both, and its state dict is transparent: the host's keys stay what they were.
"""

from __future__ import annotations

from keyword import iskeyword
from typing import Any, cast

import torch
from torch import Tensor, nn

from visattn.attention._contract import AbstractAttention, AbstractPool
from visattn.ops import mix

# The one prefix that torch.distributed.checkpoint strips from the names it saves.
BASE = "_checkpoint_wrapped_module"
ATTENTION = "attention"
# timm.utils.reparameterize_model replaces a module that has one of these by what it returns: blocks would be lost.
# Without them it goes on to the wrapped module, and a parent that would merge a wrapped child stops.
MERGING = frozenset({"fuse", "reparameterize", "switch_to_deploy"})


class Attended(nn.Module):
    """A host's module with blocks: keys ``<site>.<host key>`` and ``<site>.attention.<block>.<parameter>``.

    Attributes that it lacks are read and set in the host's module, save those that would merge it with others.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.add_module(BASE, base)
        self.attention = nn.ModuleDict()
        self.before: list[str] = []
        self.register_state_dict_post_hook(_strip_base)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_insert_base)  # type: ignore[no-untyped-call]
        self.train(base.training)

    @property
    def base(self) -> nn.Module:
        """The host's own module."""
        return cast("nn.Module", self._modules[BASE])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the host's module returns, with the blocks applied."""
        for name in self.before:
            args = (self.attention[name](args[0]), *args[1:])
        y = self.base(*args, **kwargs)
        for name, block in self.attention.items():
            if isinstance(block, AbstractPool):
                y = mix(y, block(args[0]).reshape(y.shape), block.strength)
            elif name not in self.before:
                y = block(y)
        return y

    def insert(self, name: str, block: AbstractAttention, *, before: bool) -> str:
        """Add ``block`` behind those that are here and return its key, ``name`` or ``name_2`` ...

        The first ``nonlocal`` is ``nonlocal_1``: FX writes keys into code (pytorch/pytorch#188538).
        """
        key, count = name, 0 if iskeyword(name) else 1
        while key in self.attention or iskeyword(key):
            count += 1
            key = f"{name}_{count}"
        self.attention[key] = block
        if before:
            self.before.append(key)
        return key

    def remove(self, key: str) -> None:
        """Take the block ``key`` out."""
        del self.attention[key]
        self.before = [name for name in self.before if name != key]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == BASE or (name in MERGING and hasattr(type(self.base), name)):
                raise
            return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        base = self.__dict__.get("_modules", {}).get(BASE)
        ours = name in self.__dict__ or name in self.__dict__.get("_modules", {}) or name.startswith("_")
        if base is not None and not ours and hasattr(base, name):
            setattr(base, name, value)  # a drop rate, a new weight: the host's module is the one that reads it
        else:
            super().__setattr__(name, value)


class AttendedContainer(Attended):
    """The same for a module that others also index, count or iterate; only one that has a length may be empty."""

    def __len__(self) -> int:
        return len(cast("Any", self.base))

    def __iter__(self) -> Any:
        return iter(cast("Any", self.base))

    def __getitem__(self, key: Any) -> Any:
        return cast("Any", self.base)[key]

    def __contains__(self, key: Any) -> bool:
        return key in cast("Any", self.base)


def wrap(base: nn.Module) -> Attended:
    """Return a wrapper without blocks around ``base``."""
    return AttendedContainer(base) if hasattr(base, "__len__") else Attended(base)


def swap(host: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is registered in ``host``: a module may have more names than one."""
    for module in host.modules():
        for name, child in module._modules.items():
            if child is old and module is not new:
                module._modules[name] = new


def _strip_base(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    del module, local_metadata
    hidden = f"{prefix}{BASE}."
    for key in [key for key in state if key.startswith(prefix)]:
        # every key is laid anew, so that the host's stay in front
        value = state.pop(key)
        state[prefix + key.removeprefix(hidden) if key.startswith(hidden) else key] = value


def _insert_base(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    attention, hidden = f"{prefix}{ATTENTION}.", f"{prefix}{BASE}."
    for key in [key for key in state if key.startswith(prefix)]:
        if not key.startswith((attention, hidden)):
            state[hidden + key.removeprefix(prefix)] = state.pop(key)
    if not any(key.startswith(attention) for key in state):
        # a host's own checkpoint: the blocks keep what they have, and strict loading passes
        blocks = cast("Attended", module).attention.state_dict(prefix=attention)
        state.update(
            {key: value.detach() if isinstance(value, torch.Tensor) else value for key, value in blocks.items()}
        )


def attended(host: nn.Module) -> dict[str, Attended]:
    """Return the wrappers in ``host`` by the name of their site."""
    return {site_name(name): module for name, module in host.named_modules() if isinstance(module, Attended)}


def site_name(path: str) -> str:
    """Return the host's own name for ``path``, without the wrappers' part."""
    return ".".join(part for part in path.split(".") if part != BASE)


def is_added(path: str) -> bool:
    """Whether ``path`` lies inside a block rather than in the host; see also ``attended``."""
    return f".{ATTENTION}." in f".{path}."


def strengths(host: nn.Module) -> dict[str, Tensor]:
    """Return the identity strength of every block that has one, by ``<site>/<block>``."""
    return {
        f"{site}/{key}": block.strength
        for site, wrapper in attended(host).items()
        for key, block in wrapper.attention.items()
        if isinstance(block, AbstractAttention) and block.strength is not None
    }
