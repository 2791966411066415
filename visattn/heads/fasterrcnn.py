"""Faster R-CNN over any pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from visattn.heads.detector import AbstractDetector
from visattn.heads.pyramid import Level, Pyramid
from visattn.heads.settings import Settings

FINEST = 4  # the stride at which the pyramid starts, where the host has it
ANCHOR = 8  # an anchor's side, in strides
RATIOS = (0.5, 1.0, 2.0)
POOLED, WIDTH = 7, 4  # a side of a region's features; neurons of the box head for each channel of the pyramid


class FasterRCNN(AbstractDetector, detection.FasterRCNN):  # type: ignore[misc]  # torchvision ships no annotations
    """torchvision's Faster R-CNN with one anchor size a level.

    References:
        Ren et al., "Faster R-CNN", NeurIPS 2015, https://arxiv.org/abs/1506.01497; on a pyramid: Lin et al.,
        CVPR 2017, https://arxiv.org/abs/1612.03144. All that is not named here is torchvision's default.
    """

    background = 1


def build(body: nn.Module, levels: Sequence[Level], settings: Settings) -> FasterRCNN:
    """Return the detector over ``levels`` and the coarsest one once more, subsampled.

    Regions take their features from the finest levels, as in torchvision, whatever the image size:
    a region of 112 pixels has 28 positions a side at stride 4 and 7 at stride 16.
    """
    wide = settings.channels
    pyramid = Pyramid(body, levels, extra=LastLevelMaxPool(), out_channels=wide, frozen=settings.frozen)
    strides = [level.stride for level in levels]
    sizes = tuple((ANCHOR * stride * settings.anchor_scale,) for stride in [*strides, 2 * strides[-1]])
    return FasterRCNN(
        pyramid,
        settings,
        num_classes=None,  # torchvision takes either this or a predictor
        rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign([str(i) for i in range(len(levels))], POOLED, sampling_ratio=2),
        box_head=TwoMLPHead(wide * POOLED**2, WIDTH * wide),
        box_predictor=FastRCNNPredictor(WIDTH * wide, settings.num_classes + 1),
        **settings.resizing(),
        **settings.threshold("box_score_thresh"),
    )
