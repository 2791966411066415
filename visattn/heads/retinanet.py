"""RetinaNet over any pyramid."""

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
ANCHOR = 4  # the smallest anchor's side, in strides
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)


class RetinaNet(AbstractDetector, detection.RetinaNet):  # type: ignore[misc]  # torchvision ships no annotations
    """torchvision's RetinaNet with three anchor sizes a level.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, https://arxiv.org/abs/1708.02002. All that is
        not named here is torchvision's default; as there, P6 is made from P5, where the paper makes it from C5.
    """

    background = 0


def build(body: nn.Module, levels: Sequence[Level], settings: Settings) -> RetinaNet:
    """Return the detector over ``levels``, P6 and P7."""
    wide = settings.channels
    pyramid = Pyramid(body, levels, extra=LastLevelP6P7(wide, wide), out_channels=wide, frozen=settings.frozen)
    strides = [level.stride for level in levels]
    strides += [2 * strides[-1], 4 * strides[-1]]
    # whole pixels at 800, as torchvision has them
    sizes = tuple(tuple(int(ANCHOR * stride * third) * settings.anchor_scale for third in OCTAVE) for stride in strides)
    return RetinaNet(
        pyramid,
        settings,
        anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        **settings.resizing(),
        **settings.threshold("score_thresh"),
    )
