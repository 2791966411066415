"""Numbers for maps: does a map point at the object, how spread out is it, is its gate stuck.

All take maps ``(N, h, w)`` and give one number a picture, float64. A map that says nothing (zeros, or
one value everywhere) counts as the uniform map, with half the credit for a tie: that is chance level
and no accident of which pixel comes first. A map with NaN gives NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from visattn.types import UsageError

STUCK_LOW, STUCK_HIGH = 0.05, 0.95


def rank_auc(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the probability that a pixel of the object lies above one of the background, ties 1/2.

    The area under the ROC curve: it depends on the order of the values alone, so gates with an
    offset and sparse class maps compare.

    Args:
        maps: ``(N, h, w)``, upsampled bilinearly to the masks.
        masks: ``(N, H, W)`` bool, the object; NaN comes out where it is empty or fills the picture.

    Raises:
        UsageError: the shapes do not fit.

    Example:
        >>> rank_auc(torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[True, False]]]))
        tensor([1.], dtype=torch.float64)
    """
    values, objects = _aligned(maps, masks)
    return torch.stack([_auc(v, o) for v, o in zip(values, objects, strict=True)])


def energy_in_object(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's sum that lies in the object (its area's share for a uniform map).

    Args:
        maps: ``(N, h, w)``, upsampled bilinearly to the masks; values below 0 count as 0.
        masks: ``(N, H, W)`` bool, the object; NaN comes out where it is empty.

    Raises:
        UsageError: the shapes do not fit.

    Example:
        >>> energy_in_object(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[True, False]]]))
        tensor([0.7500], dtype=torch.float64)
    """
    values, objects = _aligned(maps, masks)
    values = values.clamp_min(0)
    values = torch.where(values.sum(1, keepdim=True) == 0, 1.0, values)
    share = (values * objects).sum(1) / values.sum(1)
    return share.where(objects.any(1), math.nan)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Return whether each map's largest value lies in the object; of several, the share that does.

    Args:
        maps: ``(N, h, w)``, upsampled bilinearly to the masks.
        masks: ``(N, H, W)`` bool, the object; NaN comes out where it is empty.

    Raises:
        UsageError: the shapes do not fit.

    Example:
        >>> pointing_game(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[False, True]]]))
        tensor([0.], dtype=torch.float64)
    """
    values, objects = _aligned(maps, masks)
    peaks = values == values.amax(1, keepdim=True)  # NaN equals nothing: 0 / 0 below
    return ((peaks & objects).sum(1) / peaks.sum(1).double()).where(objects.any(1), math.nan)


def entropy(maps: Tensor) -> Tensor:
    """Return each map's entropy over positions: 1 for the uniform map, 0 for a single point.

    Args:
        maps: ``(N, h, w)``; values below 0 count as 0.

    Example:
        >>> entropy(torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    values = maps.detach().double().flatten(1).clamp_min(0)
    values = torch.where(values.sum(1, keepdim=True) == 0, 1.0, values)
    if values.shape[1] == 1:
        return torch.ones_like(values[:, 0])
    share = values / values.sum(1, keepdim=True)
    return torch.special.entr(share).sum(1) / math.log(values.shape[1])


def saturation(gates: Tensor, *, upper: float = 1.0) -> Tensor:
    """Return the share of each picture's raw gate values that are stuck at either end of the range.

    Args:
        gates: ``(N, ...)``, raw maps of any kind.
        upper: the largest value a gate can take; below 5 % and above 95 % of it counts as stuck.

    Example:
        >>> saturation(torch.tensor([[0.01, 0.5, 0.99, 0.6]]))
        tensor([0.5000], dtype=torch.float64)
    """
    values = gates.detach().double().flatten(1) / upper
    stuck = ((values < STUCK_LOW) | (values > STUCK_HIGH)).double().mean(1)
    return stuck.where(values.isfinite().all(1), math.nan)


def _aligned(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps and masks as ``(N, HW)``, the maps upsampled to the masks."""
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or masks.dtype != torch.bool:
        raise UsageError(
            f"scores need maps (N, h, w) and bool masks (N, H, W), got {tuple(maps.shape)} and "
            f"{tuple(masks.shape)} {str(masks.dtype).removeprefix('torch.')}"
        )
    fine = maps.detach().to(masks.device, torch.float64)
    if fine.shape != masks.shape:
        fine = F.interpolate(fine[:, None], masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    # Rounded to fp32: the last bits of an interpolated constant would otherwise break its ties.
    return fine.flatten(1).float().double(), masks.flatten(1)


def _auc(values: Tensor, objects: Tensor) -> Tensor:
    inside = int(objects.sum())
    outside = len(objects) - inside
    if not inside or not outside or not bool(values.isfinite().all()):
        return values.new_tensor(math.nan)
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts - 1) / 2  # the mean rank of equal values, in double
    total = ranks.double()[place][objects].sum()
    return (total - inside * (inside + 1) / 2) / (inside * outside)
