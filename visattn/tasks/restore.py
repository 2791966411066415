"""A trained task from its run folder or checkpoint, with what its pictures need."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningDataModule

from visattn.tasks.task import AbstractTask
from visattn.types import UsageError, unknown

CHECKPOINTS = "checkpoints"  # the folder of a run's checkpoints, named by their epochs
FORMS = "a run folder or a .ckpt file of visattn fit"
TASKS = {  # by the word in a checkpoint: a file says which of these it is of, and can name no other class
    "classification": ("visattn.tasks.classification", "ClassificationTask"),
    "detection": ("visattn.tasks.detection", "DetectionTask"),
}


@dataclass(frozen=True)
class Restored:
    """A task in eval mode, and the settings of the data that it was trained on."""

    task: AbstractTask
    data: dict[str, Any]
    checkpoint: Path

    @property
    def image_size(self) -> int:
        """Side of the pictures that the network was trained on, or resizes them to."""
        return self.task.picture_size(self.data)


def restore(path: str | Path) -> Restored:
    """Rebuild a task from ``path``; only weights are read from the file, never code.

    Raises:
        UsageError: ``path`` is neither a run folder nor a checkpoint of visattn.
    """
    given = Path(path)
    if not given.exists():
        raise UsageError(f"checkpoint '{given}' does not exist; valid: {FORMS}")
    file = newest_checkpoint(given)[0] if given.is_dir() else given
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
        settings, state = dict(saved["hyper_parameters"]), saved["state_dict"]
    except Exception as error:
        raise UsageError(f"checkpoint '{file}' cannot be read ({type(error).__name__}); valid: {FORMS}") from error
    kind = saved.get("task", "classification")
    if kind not in TASKS:
        raise unknown(f"task in {file}", kind, TASKS)
    module, name = TASKS[kind]
    cls = getattr(import_module(module), name)
    known = inspect.signature(cls).parameters
    # the file holds all weights: nothing is fetched, and the network need not be compiled to look at it
    fixed = {"pretrained": False, "weights": None, "compile": False}
    settings = {key: value for key, value in {**settings, **fixed}.items() if key in known}
    task: AbstractTask = cls(**settings)
    task.load_state_dict(state)
    task.on_load_checkpoint(saved)
    return Restored(task.eval(), dict(saved.get("datamodule_hyper_parameters") or {}), file)


def restore_data(run: str | Path) -> LightningDataModule:
    """Rebuild the data module of a run folder from its config.

    Raises:
        UsageError: ``run`` has no config, or the config names no data module.
    """
    path = Path(run) / "config.yaml"
    if not path.is_file():
        raise UsageError(f"'{run}' is no run folder: it holds no config.yaml")
    config = yaml.safe_load(path.read_text())
    module, _, name = str(config["data"]["class_path"]).rpartition(".")
    data = getattr(import_module(module), name)(
        **{**config["data"].get("init_args", {}), "seed": config["seed_everything"]}
    )
    if not isinstance(data, LightningDataModule):
        raise UsageError(f"{path}: data.class_path names no data module")
    data.setup("test")
    return data


def newest_checkpoint(run: Path) -> tuple[Path, list[str]]:
    """Return the newest checkpoint of ``run`` that loads, and what was wrong with newer ones.

    Raises:
        UsageError: there is none.
    """
    wrong = []
    for path in sorted((run / CHECKPOINTS).glob("*.ckpt"), reverse=True):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            wrong.append(f"{path} does not load ({type(error).__name__})")
        else:
            return path, wrong
    raise UsageError(f"{run} holds no checkpoint that loads{': ' + '; '.join(wrong) if wrong else ''}")
