"""SSD over any pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from visattn.heads.detector import AbstractDetector
from visattn.heads.pyramid import Level, Pyramid
from visattn.heads.settings import Settings
from visattn.types import UsageError

FINEST = 8  # the stride at which the pyramid starts
# sides of the default boxes in shares of the image, one a level and one beyond: SSD300's, over five levels
SHARES = (0.07, 0.15, 0.33, 0.6, 0.87, 1.05)
RATIOS = (2, 3)  # besides 1, and as wide as high


class SSD(AbstractDetector, ssd.SSD):  # type: ignore[misc]  # torchvision ships no annotations
    """torchvision's SSD head on a pyramid; pictures are resized to a square.

    References:
        Liu et al., "SSD", ECCV 2016, https://arxiv.org/abs/1512.02325. The paper's extra layers on VGG-16 are
        replaced by a pyramid with P6 and P7; losses, matching and hard negatives are torchvision's.
    """

    background = 1


def build(body: nn.Module, levels: Sequence[Level], settings: Settings) -> SSD:
    """Return the detector over ``levels``, P6 and P7.

    Raises:
        UsageError: several image sizes: the default boxes are shares of one.
    """
    if len(settings.image_sizes) != 1:
        raise UsageError(f"image_size={list(settings.image_sizes)} for ssd; valid: one number, the side of its square")
    wide, (side,) = settings.channels, settings.image_sizes
    pyramid = Pyramid(body, levels, extra=LastLevelP6P7(wide, wide), out_channels=wide, frozen=settings.frozen)
    ratios = [list(RATIOS) for _ in range(len(levels) + 2)]
    boxes = DefaultBoxGenerator(ratios, scales=[min(share * settings.anchor_scale, 1.05) for share in SHARES])
    head = ssd.SSDHead([wide] * len(ratios), boxes.num_anchors_per_location(), settings.num_classes + 1)
    return SSD(
        pyramid,
        settings,
        anchor_generator=boxes,
        size=(side, side),
        head=head,
        **settings.threshold("score_thresh"),
    )
