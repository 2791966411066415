"""FCOS over any pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from visattn.heads.detector import AbstractDetector
from visattn.heads.pyramid import Level, Pyramid
from visattn.heads.settings import Settings

FINEST = 8  # the stride at which the pyramid starts


class FCOS(AbstractDetector, detection.FCOS):  # type: ignore[misc]  # torchvision ships no annotations
    """torchvision's FCOS: no anchors, one point a position.

    References:
        Tian et al., "FCOS", ICCV 2019, https://arxiv.org/abs/1904.01355, in the form of the authors' later
        https://arxiv.org/abs/2006.09214. All that is not named here is torchvision's default.
    """

    background = 0


def build(body: nn.Module, levels: Sequence[Level], settings: Settings) -> FCOS:
    """Return the detector over ``levels``, P6 and P7.

    A point is as large as its stride at every image size: a smaller one would leave small objects
    without any point in their middle.
    """
    wide = settings.channels
    pyramid = Pyramid(body, levels, extra=LastLevelP6P7(wide, wide), out_channels=wide, frozen=settings.frozen)
    strides = [level.stride for level in levels]
    strides += [2 * strides[-1], 4 * strides[-1]]
    return FCOS(
        pyramid,
        settings,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides)),
        **settings.resizing(),
        **settings.threshold("score_thresh"),
    )
