"""Import files of others' repositories from git, without what they import and their attention does not need.

An import that is neither installed nor a file of the repositories gives stand-ins: inherited, a stand-in is
``nn.Module``; called or put before a definition it does nothing. ``STAND_INS`` has those that must do more.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import timm.models  # noqa: F401 - before there are stand-ins: it tries optional imports
from torch import Tensor, nn


@dataclass(frozen=True, order=True)  # all are equal, so that versions compare
class Nothing:
    def __call__(self, decorated: Any = None) -> Any:
        return decorated


class StandInType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return StandIn

    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        return Nothing() if cls is StandIn else super().__call__(*args, **keywords)


class StandIn(nn.Module, metaclass=StandInType):
    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


class Registry(dict[str, Any]):
    """As much of mmengine's as mmcv's ConvModule uses."""

    def register_module(self, name: str | None = None, module: Any = None) -> Any:
        if module is not None:
            self[name or module.__name__] = module
        return Nothing()

    @contextmanager
    def switch_scope_and_registry(self, _: None) -> Iterator[Registry]:
        yield self

    def build(self, config: dict[str, Any]) -> Any:
        return self[config["type"]](**{key: value for key, value in config.items() if key != "type"})


def rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    """As much of einops's as splits and joins neighbouring axes."""
    before, after = (re.findall(r"\([^)]*\)|\w+", side) for side in pattern.split("->"))
    sizes |= {axis: length for axis, length in zip(before, x.shape, strict=True) if "(" not in axis}
    return x.reshape([math.prod(sizes[axis] for axis in re.findall(r"\w+", joined)) for joined in after])


STAND_INS = {"MODELS": Registry(), "rearrange": rearrange}
FROM_MMCV = {"ConvModule": "mmcv.cnn.bricks.conv_module"}


class StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in FROM_MMCV:
            return getattr(import_module(FROM_MMCV[name]), name)
        return STAND_INS.get(name, StandIn)


class Repository:
    def __init__(self, mirror: Path, name: str) -> None:
        folder = mirror / name.replace("/", "+") / "repo"
        self.folder = folder / ".git" if (folder / ".git").exists() else folder
        self.commit = self.git("rev-parse", "HEAD").strip()
        entries = self.git("ls-tree", "-r", "HEAD").splitlines()
        self.paths = {entry.partition("\t")[2] for entry in entries if " blob " in entry}  # no submodules

    def git(self, *args: str) -> str:
        command = ["git", f"--git-dir={self.folder}", *args]
        return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout

    def source(self, module: str) -> str | None:
        path = module.replace(".", "/")
        found = {path, f"{path}.py"} & self.paths
        return self.git("show", f"HEAD:{found.pop()}") if found else None


class Importer(MetaPathFinder, InspectLoader):
    """Finds what is not installed: files of the repositories, else packages of stand-ins."""

    def __init__(self, *repositories: Repository) -> None:
        self.repositories = repositories

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_loader(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self.get_source(spec.name) else StandInModule(spec.name)

    def get_source(self, name: str) -> str:
        return next((text for one in self.repositories if (text := one.source(name))), "")

    def is_package(self, name: str) -> bool:
        return not self.get_source(name)


@contextmanager
def imported(path: str, *repositories: Repository) -> Iterator[ModuleType]:
    importer = Importer(*repositories)
    sys.meta_path.append(importer)
    try:
        yield import_module(path.removesuffix(".py").replace("/", "."))
    finally:
        sys.meta_path.remove(importer)
        for name in [name for name, module in sys.modules.items() if getattr(module, "__loader__", None) is importer]:
            del sys.modules[name]
