"""Pictures of where a model looks, drawn while it trains."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from visattn.maps.boxes import Marked, draw_boxes
from visattn.maps.capture import Maps, evaluating, map_keys
from visattn.maps.draw import draw
from visattn.maps.render import save_jpeg, sheet
from visattn.maps.score import saturation
from visattn.types import UsageError

MOST = 108  # wandb drops the rest of a longer list of images
SIDE = 224  # pixels of a drawn picture's longer side
ACROSS = 4  # pictures side by side in TensorBoard


class Drawing(NamedTuple):
    """What one epoch's drawing hands to the loggers."""

    epoch: int
    step: int
    pictures: dict[str, list[Image.Image]]  # by map key, one a picture
    files: dict[str, list[Path]]  # the same as JPEG files
    captions: list[str]
    scalars: dict[str, float]
    inputs: list[NDArray[np.uint8]]  # the pictures themselves
    boxes: list[list[Marked]]  # of each, what is there and what was found; empty for a classifier


class AttentionMaps(L.Callback):
    """Draw the maps of the same validation pictures as training goes on.

    JPEG files go to ``<run>/<folder>/epoch=NNNN/``: one a map and picture, and ``sheet.jpg`` with all
    of them. They also go to Weights & Biases and TensorBoard where these are attached. Training is
    not disturbed: weights, modes and random numbers are what they would be without it, and what
    fails here is a warning. A model without attention is passed over in silence, since one
    experiment file serves it too.

    Args:
        pictures: how many validation pictures, drawn evenly over the classes; the same
            in every epoch and in every run on this data.
        every: draw after the validation of every so many epochs, and at the end of training.
        maps: a pattern for the keys of the maps to draw, such as ``*/cbam.spatial``; all by default.
        folder: where to, inside the run folder.

    Raises:
        UsageError: ``pictures`` is not 1 to 108, or ``every`` is not positive.

    Example:
        >>> AttentionMaps(pictures=4, maps="layer4.*/*.spatial").every
        1
    """

    def __init__(self, pictures: int = 8, every: int = 1, maps: str | None = None, folder: str = "maps") -> None:
        if not 1 <= pictures <= MOST:
            raise UsageError(f"pictures must be 1 to {MOST}, got {pictures}")
        if every < 1:
            raise UsageError(f"every must be at least 1, got {every}")
        self.pictures, self.every, self.maps, self.folder = pictures, every, maps, folder
        self._epoch = 0
        self._drawn: tuple[int, int] | None = None  # epoch and step of the last drawing
        self._warned: set[str] = set()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch, which the trainer has counted on by the end of training."""
        del pl_module
        self._epoch = trainer.current_epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, in every so many epochs of a fit."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self._epoch % self.every:
            return
        if self._drawn is None or self._drawn[0] != self._epoch:  # once, however often an epoch validates
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw what training ended with, unless that is drawn already."""
        if self._drawn != (self._epoch, trainer.global_step):
            self._draw(trainer, pl_module)

    def _draw(self, trainer: L.Trainer, module: Any) -> None:
        self._drawn = (self._epoch, trainer.global_step)
        if not trainer.is_global_zero:  # nothing below waits for other processes
            return
        if isinstance(trainer.strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
            self._warn(
                "strategy",
                f"no attention maps under {type(trainer.strategy).__name__}: one process holds no whole model",
            )
            return
        with isolate_rng():
            try:
                drawing = self._drawing(trainer, module)
            except Exception as error:
                self._warn("drawing", f"attention maps were not drawn: {error or type(error).__name__}")
                return
            if drawing is None:
                return
            for logger in trainer.loggers:
                self._log(logger, drawing)

    def _drawing(self, trainer: Any, module: Any) -> Drawing | None:
        known = map_keys(module.network)
        keys = [key for key in known if self.maps is None or fnmatchcase(key, self.maps)]
        if not keys:
            if known:
                self._warn("pattern", f"maps='{self.maps}' matches no map; there are {', '.join(known)}")
            return None
        dataset = trainer.datamodule.dataset("val")
        chosen = choose(module.sorts(dataset), self.pictures)
        batch = trainer.datamodule.val_dataloader().collate_fn([dataset[i] for i in chosen])
        images = list(batch[0])
        seen = _run(trainer, module, images, batch[1])
        captions = [
            f"id={i} {' '.join(text.split())} epoch={self._epoch}" for i, text in zip(chosen, seen.said, strict=True)
        ]
        below = [f"id={i}  epoch={self._epoch}\n{text}" for i, text in zip(chosen, seen.said, strict=True)]
        pictures = draw(seen.maps, images, keys=keys, captions=below, size=SIDE, frames=seen.frames)
        folder = Path(trainer.default_root_dir, self.folder)
        _note_pictures(folder, chosen, module, dataset)
        files = _save(folder / f"epoch={self._epoch:04d}", pictures, chosen)
        inputs = [image.movedim(0, -1).cpu().numpy() for image in images]
        shown = [
            draw_boxes(*one, size=SIDE, caption=text) for *one, text in zip(inputs, seen.boxes, below, strict=True)
        ]
        overview = sheet([shown, *pictures.values()], row_labels=["pictures", *pictures])
        save_jpeg(overview, folder / f"epoch={self._epoch:04d}" / "sheet.jpg")
        scalars = _scalars(seen.maps, keys)
        return Drawing(self._epoch, trainer.global_step, pictures, files, captions, scalars, inputs, seen.boxes)

    def _log(self, logger: Any, drawing: Drawing) -> None:
        try:
            if isinstance(logger, WandbLogger):
                _log_wandb(logger, drawing)
            elif isinstance(logger, TensorBoardLogger):
                _log_tensorboard(logger, drawing)
        except Exception as error:
            name = type(logger).__name__
            self._warn(name, f"{name} did not take the attention maps: {error or type(error).__name__}")

    def _warn(self, matter: str, message: str) -> None:
        if matter not in self._warned:
            self._warned.add(matter)
            rank_zero_warn(message)


def choose(labels: NDArray[Any], count: int) -> list[int]:
    """Return ``count`` indices drawn evenly over the classes, in every run of these labels the same.

    Example:
        >>> sorted(np.array([0, 0, 0, 1])[choose(np.array([0, 0, 0, 1]), 2)].tolist())
        [0, 1]
    """
    order = np.random.default_rng(0).permutation(len(labels))
    turn: dict[Any, int] = {}  # how many of a class came before
    turns = []
    for label in labels[order].tolist():
        turns.append(turn.get(label, 0))
        turn[label] = turns[-1] + 1
    first = order[np.argsort(turns, kind="stable")]  # one of each class, then a second of each, ...
    return [int(index) for index in first[:count]]


def _run(trainer: L.Trainer, module: Any, images: list[Tensor], truths: Any) -> Any:
    """Run the unwrapped network, in the precision of training; return what it says, with its maps."""
    with torch.no_grad(), evaluating(module.network), trainer.precision_plugin.forward_context():
        return module.see(images, truths)


def _scalars(maps: Maps, keys: Sequence[str]) -> dict[str, float]:
    scalars = {}
    for key in keys:
        info = maps.info(key)
        scalars[f"maps/{key}/mean"] = float(maps.effective(key).mean())
        if not info.softmax and info.scale is not None:  # a weight among many is small without being stuck
            low, high = info.scale
            scalars[f"maps/{key}/saturation"] = float(saturation(maps[key] - low, upper=high - low).mean())
        if info.strength is not None:
            scalars[f"maps/{key}/strength"] = info.strength
    return scalars


def _save(folder: Path, pictures: dict[str, list[Image.Image]], chosen: list[int]) -> dict[str, list[Path]]:
    return {
        key: [save_jpeg(image, folder / f"{_file_name(key)}-{i}.jpg") for i, image in zip(chosen, images, strict=True)]
        for key, images in pictures.items()
    }


def _file_name(key: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", key)


def _note_pictures(folder: Path, chosen: list[int], module: Any, dataset: Any) -> None:
    names, sorts = [str(name) for name in module.class_names], module.sorts(dataset)
    rows = [
        {"id": i, "label": names[sorts[i]] if sorts[i] >= 0 else None, "name": str(dataset.names[i])} for i in chosen
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pictures.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _log_wandb(logger: WandbLogger, drawing: Drawing) -> None:
    import wandb

    row: dict[str, Any] = {"epoch": drawing.epoch, "trainer/global_step": drawing.step, **drawing.scalars}
    for key, files in drawing.files.items():
        captioned = zip(files, drawing.captions, strict=True)
        row[f"maps/{key}"] = [wandb.Image(str(file), caption=caption) for file, caption in captioned]
    if any(drawing.boxes):
        row["maps/boxes"] = [
            wandb.Image(Image.fromarray(picture), caption=caption, file_type="jpg", boxes=_wandb_boxes(boxes))
            for picture, boxes, caption in zip(drawing.inputs, drawing.boxes, drawing.captions, strict=True)
        ]
    logger.experiment.log(row)  # one call and no step: wandb drops steps that go back


def _wandb_boxes(boxes: Sequence[Marked]) -> dict[str, Any]:
    """Return boxes as W&B's panel takes them: two groups, which its viewer switches on and off."""
    classes = {one.label: one.name for one in boxes}
    groups: dict[str, list[dict[str, Any]]] = {"there": [], "found": []}
    for one in boxes:
        left, top, right, bottom = one.box
        shown: dict[str, Any] = {
            "position": {"minX": left, "minY": top, "maxX": right, "maxY": bottom},
            "domain": "pixel",
            "class_id": one.label,
            "box_caption": one.name if one.score is None else f"{one.name} {one.score:.2f}",
        }
        if one.score is not None:
            shown["scores"] = {"score": one.score}
        groups["there" if one.score is None else "found"].append(shown)
    return {name: {"box_data": data, "class_labels": classes} for name, data in groups.items()}


def _log_tensorboard(logger: TensorBoardLogger, drawing: Drawing) -> None:
    writer = logger.experiment
    for key, pictures in drawing.pictures.items():
        rows = [pictures[i : i + ACROSS] for i in range(0, len(pictures), ACROSS)]
        writer.add_image(f"maps/{key}", np.asarray(sheet(rows)), drawing.step, dataformats="HWC")
    for key, value in drawing.scalars.items():
        writer.add_scalar(key, value, drawing.step)
