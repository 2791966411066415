"""From an architecture, a host's name and an attention spec to a detector."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import nn

from visattn.heads import ARCHITECTURES
from visattn.heads.detector import AbstractDetector
from visattn.heads.pyramid import Level
from visattn.heads.settings import LEAST_SCALE, TRAINED_AT, Settings
from visattn.insertion.attend import Site, attend
from visattn.insertion.spec import Entry, parse
from visattn.models.create import build_host, normalisation
from visattn.models.levels import drop, find_levels, unused
from visattn.models.loading import load_weights
from visattn.types import AttentionSpec, Init, UsageError, unknown

Norms = Literal["train", "frozen", "sync"]
GROUPS = 32  # of the group norms in FCOS's heads, which need two values each where a map has one position
WORDS = ("paper", "residual", "stages")  # they find places wherever these are, the others name one
SMALLEST = 32  # pixels: one position of the coarsest map of a host


def create_detector(
    arch: str,
    backbone: str | nn.Module = "resnet50",
    *,
    attention: AttentionSpec = None,
    attention_init: Init = "identity",
    num_classes: int,
    pretrained: bool = False,
    weights: str | PathLike[str] | None = None,
    rename: Mapping[str, str] | None = None,
    norms: Norms = "train",
    image_size: int | Sequence[int] = 800,
    max_size: int = 1333,
    channels: int = 256,
    anchor_scale: float | None = None,
    score_threshold: float | None = None,
    **host: Any,
) -> AbstractDetector:
    """Build a detector of torchvision's over any CNN and insert attention into it.

    The host is built and its weights are loaded first, then it is attended as a classifier would be,
    then the pyramid and the heads follow: with the same seed a baseline and its attention twin share
    every other weight, and one pattern and one attention file serve ``create_model`` and
    ``create_detector(...).body``. What lies behind the last level, as the classifier, is dropped.

    Args:
        arch: ``fasterrcnn``, ``retinanet``, ``fcos`` or ``ssd``.
        backbone: a timm model, ``torchvision:<model>``, or a module of your own (changed in place).
        attention: what to insert where, as in ``visattn.attend`` on the backbone; the place ``fpn`` is
            the pyramid's outputs, so that ``{"fpn": "cbam", "layer4.*.bn2": "eca"}`` attends both.
        attention_init: the start of specs that name none, ``identity`` or ``paper``.
        num_classes: kinds of objects, without a background; labels are ``0`` to ``num_classes - 1``.
        pretrained: load the library's pretrained weights of the backbone.
        weights: a local file of the backbone's weights, loaded by ``visattn.load_weights``.
        rename: prefixes of the file's keys to those of the backbone.
        norms: the backbone's batch norms: ``train``; ``frozen`` keeps statistics, scale and shift; ``sync``
            shares statistics between devices. Norms inside inserted blocks always learn.
        image_size: the shorter side that pictures are resized to; of a list one is drawn for each
            picture in training, and the last serves for evaluation. SSD takes one, the side of a square.
        max_size: the longer side's limit; SSD has none.
        channels: of the pyramid and the heads, a multiple of 32 from 64.
        anchor_scale: multiplies the anchors; by default ``image_size / 800``, at least 0.5. FCOS has none;
            SSD's are shares of the image and start at 1.
        score_threshold: the lowest score of a detection; torchvision's own by default.
        **host: keywords of the backbone's constructor.

    Returns:
        The detector: ``detector(images, targets)`` gives a dict of losses in training mode, and
        ``detector(images)`` a list of boxes, labels and scores in eval mode.

    Raises:
        UsageError: an unknown name, spec or keyword, weights that do not fit, or a backbone without maps
            ``(N, C, H, W)`` at strides 8, 16 and 32.

    Example:
        >>> import torch
        >>> small = {"image_size": 64, "channels": 64}
        >>> detector = create_detector("fcos", "test_resnet", attention="eca", num_classes=3, **small)
        >>> [sorted(found) for found in detector.eval()([torch.rand(3, 50, 70)])]
        [['boxes', 'labels', 'scores']]
    """
    if arch not in ARCHITECTURES:
        raise unknown("detector", arch, ARCHITECTURES)
    sizes = _checked_sizes(image_size, max_size)
    _check_numbers(num_classes, channels, norms)
    if arch == "fcos" and anchor_scale is not None:
        raise UsageError(f"anchor_scale={anchor_scale} for fcos, which has no anchors; valid: none")
    entries = parse(attention, init=attention_init)
    architecture = import_module(f"visattn.heads.{arch}")
    body = build_host(backbone, None, pretrained=pretrained, **host)
    if weights is not None:
        load_weights(body, Path(weights), rename=rename)
    mean, std = normalisation(body)
    levels = find_levels(body, architecture.FINEST)
    if norms == "sync":
        body = _synchronised(body)
    sites = attend(body, [_spec(entry) for entry in entries if entry.at != "fpn"])
    behind = unused(body, levels)
    _check_sites(sites, behind, levels[-1])
    drop(body, behind)
    by_size = 1.0 if arch == "ssd" else max(LEAST_SCALE, sizes[-1] / TRAINED_AT)
    scale = by_size if anchor_scale is None else anchor_scale
    settings = Settings(
        num_classes, sizes, max_size, mean, std, channels, scale, score_threshold, frozen=norms == "frozen"
    )
    detector = cast("AbstractDetector", architecture.build(body, levels, settings))
    attend(detector.backbone, [_spec(entry) for entry in entries if entry.at == "fpn"])
    return detector


def _check_sites(sites: Sequence[Site], unused: Sequence[str], last: Level) -> None:
    """Refuse attention that would never run; where a word found other places too, only tell of it."""
    lost = [site for site in sites if any(f"{site.name}.".startswith(f"{name}.") for name in unused)]
    if not lost:
        return
    names = ", ".join(site.name for site in lost)
    where = f"behind the last map that a detector uses, '{last.name}'"
    if len(lost) == len(sites) or any(not site.placement.startswith(WORDS) for site in lost):
        raise UsageError(f"attention at {names} would never run: it lies {where}; valid: places up to it, and fpn")
    warnings.warn(f"{len(lost)} of {len(sites)} sites are left out ({names}): they lie {where}", stacklevel=3)


def _spec(entry: Entry) -> dict[str, Any]:
    known = {"block": entry.block, "at": entry.at, "stages": entry.stages, "init": entry.init, "add": entry.add}
    return {**known, **entry.keywords}


def _synchronised(body: nn.Module) -> nn.Module:
    # torch's own conversion drops the activation inside timm's BatchNormAct2d
    from timm.layers import convert_sync_batchnorm

    return cast("nn.Module", convert_sync_batchnorm(body))


def _checked_sizes(image_size: int | Sequence[int], max_size: int) -> tuple[int, ...]:
    sizes = (image_size,) if isinstance(image_size, int) else tuple(image_size)
    if not sizes or any(not isinstance(size, int) or size < SMALLEST for size in sizes):
        raise UsageError(f"image_size={image_size!r} is not valid; valid: a number of at least {SMALLEST}, or a list")
    if max_size < max(sizes):
        raise UsageError(f"max_size={max_size} is below image_size={max(sizes)}; valid: at least that")
    return sizes


def _check_numbers(num_classes: int, channels: int, norms: str) -> None:
    if num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, got {num_classes}; the background is not counted")
    if channels < 2 * GROUPS or channels % GROUPS:
        raise UsageError(f"channels must be a multiple of {GROUPS} from {2 * GROUPS}, got {channels}")
    if norms not in get_args(Norms):
        raise unknown("norms", norms, get_args(Norms))
