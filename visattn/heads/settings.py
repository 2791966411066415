"""What the four detectors are built from, besides a host and its levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TRAINED_AT = 800  # the shorter side, in pixels, for which torchvision's anchors are made
# Smaller anchors do not overlap their neighbours: at 192 pixels a scale of 0.24 can find 47 % of BCCD's boxes at best
# (RetinaNet, overlap 0.5), one of 0.5 finds 99 %.
LEAST_SCALE = 0.5


@dataclass(frozen=True)
class Settings:
    """One detector's numbers, the same for every architecture.

    Attributes:
        num_classes: of objects, without a background.
        image_sizes: shorter sides of the resized pictures; one is drawn a picture in training, the last serves else.
        max_size: the longest side.
        mean: of the host's input, for images in 0 to 1.
        std: its standard deviation.
        channels: of the pyramid and of the heads' layers.
        anchor_scale: multiplies the anchors' sizes; 1 fits ``TRAINED_AT``.
        score_threshold: detections below it are dropped; torchvision's own without one.
        frozen: whether the host's batch norms are.
    """

    num_classes: int
    image_sizes: tuple[int, ...]
    max_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    anchor_scale: float
    score_threshold: float | None
    frozen: bool

    def resizing(self) -> dict[str, Any]:
        """Return the sizes as torchvision's constructors take them."""
        return {"min_size": self.image_sizes, "max_size": self.max_size}

    def threshold(self, keyword: str) -> dict[str, float]:
        """Return the score threshold under the name that an architecture gives it."""
        return {} if self.score_threshold is None else {keyword: self.score_threshold}
