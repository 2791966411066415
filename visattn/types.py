"""Words that every layer shares: the error for bad input, the kinds of map, the batch."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import Tensor

MapKind = Literal["channel", "spatial", "full", "pairwise", "pool"]
MAP_KINDS: tuple[MapKind, ...] = get_args(MapKind)

Family = Literal["channel", "spatial", "mixed", "branch", "global", "pool"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Init = Literal["identity", "paper"]
INITS: tuple[Init, ...] = get_args(Init)

# A block's name, a dict with the key "block", a mapping from places to specs, or a list of these.
AttentionSpec: TypeAlias = str | dict[str, Any] | list[Any] | None


class UsageError(ValueError):
    """Bad input from a user: one line that names the value, the limit and the valid choices.

    The command line prints it without a traceback and leaves with status 2.
    """


def unknown(what: str, value: object, choices: Iterable[object]) -> UsageError:
    """Return the error for a ``value`` that is none of ``choices``, nearest names first.

    Example:
        >>> print(unknown("block", "cbma", ["cbam", "eca", "se"]))
        unknown block 'cbma'; did you mean 'cbam'? valid: cbam, eca, se
    """
    names = [str(choice) for choice in choices]
    near = get_close_matches(str(value), names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    return UsageError(f"unknown {what} '{value}';{hint} valid: {shown or 'none'}")


class Frames(NamedTuple):
    """Where the pictures of a padded batch lie in it: each is scaled and stands at the upper left corner."""

    padded: tuple[int, int]  # height and width of the batch
    scaled: list[tuple[int, int]]  # of each picture inside the batch
    pictures: list[tuple[int, int]]  # of each picture as it was given


class Metric(NamedTuple):
    """The score by which runs of a task are compared: a fraction, told in percent."""

    key: str  # logged as <split>/<key>
    word: str  # for axes and lines on the screen
    name: str  # for headings


ACCURACY = Metric("top1", "top-1", "accuracy")  # also of results that do not say


class ClassificationBatch(NamedTuple):
    """What a classification data module yields; normalising is left to the device."""

    images: Tensor  # (N, 3, H, W), uint8, 0 to 255
    labels: Tensor  # (N,), int64
    indices: Tensor  # (N,), int64: each sample's place in its dataset


class DetectionBatch(NamedTuple):
    """What a detection data module yields; resizing and normalising are left to the detector."""

    images: list[Tensor]  # each (3, H, W), uint8, 0 to 255; sizes may differ
    targets: list[dict[str, Tensor]]  # boxes (n, 4) float32, xyxy in pixels of its image; labels (n,) int64; n may be 0
    indices: Tensor  # (N,), int64: each sample's place in its dataset
