"""Maps of a padded batch, brought into the pixels of each of its pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visattn.types import Frames, UsageError


def to_pictures(planes: Tensor, frames: Frames) -> list[Tensor]:
    """Return each picture's part of maps that cover a padded batch, in the pixels of the picture as it was given.

    A detector scales its pictures and pads them to one size, so that a map covers padding too:
    drawn over the picture as a whole, it shows the object beside its place, by up to a picture's width.
    Here every pixel of the picture reads the map where the picture's pixel lies in the batch (bilinear).

    Shapes:
        - ``planes``: ``(N, h, w)``, as ``Maps.plane`` gives them, over the whole batch.
        - output: ``N`` maps ``(H, W)``, one a picture, in float32.

    Args:
        planes: maps with positions; for a pairwise map pass ``aspect=`` of the padded batch to ``Maps.plane``.
        frames: ``detector.frames`` after the same batch.

    Raises:
        UsageError: ``planes`` are not ``(N, h, w)`` with one map a picture.

    Example:
        >>> frames = Frames(padded=(64, 64), scaled=[(64, 32)], pictures=[(128, 64)])
        >>> planes = torch.zeros(1, 4, 4)
        >>> planes[0, :, 2:] = 1  # the padding
        >>> picture = to_pictures(planes, frames)[0]
        >>> tuple(picture.shape), picture[:, :48].max().item()
        ((128, 64), 0.0)
    """
    count = len(frames.pictures)
    if planes.dim() != 3 or len(planes) != count:
        raise UsageError(f"maps {tuple(planes.shape)} for a batch of {count} pictures; valid: ({count}, h, w)")
    return [
        _picture(plane, frames.padded, scaled, picture)
        for plane, scaled, picture in zip(planes.float(), frames.scaled, frames.pictures, strict=True)
    ]


def _picture(plane: Tensor, padded: tuple[int, int], scaled: tuple[int, int], picture: tuple[int, int]) -> Tensor:
    # where the centre of each of the picture's pixels lies in the batch, from -1 to 1 over its whole extent
    y, x = (
        (torch.arange(pixels, device=plane.device) + 0.5) / pixels * (2 * inside / whole) - 1
        for pixels, inside, whole in zip(picture, scaled, padded, strict=True)
    )
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (H, W, 2), x first
    drawn = F.grid_sample(plane[None, None], places[None], padding_mode="border", align_corners=False)
    return drawn[0, 0]
