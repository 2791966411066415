"""What is marked in one picture: boxes, labels, crowds, areas."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Objects(NamedTuple):
    """What is marked in one picture, ``n`` may be 0."""

    boxes: NDArray[np.float32]  # (n, 4), xyxy in pixels of the picture as it is stored
    labels: NDArray[np.int64]  # (n,), places in the data module's class_names
    iscrowd: NDArray[np.bool_]  # (n,): evaluation ignores what lies there; training does not see it
    area: NDArray[np.float32]  # (n,), in pixels: of the outline where the format has one, else of the box

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Objects:
        """Return the objects at ``places``."""
        return Objects(self.boxes[places], self.labels[places], self.iscrowd[places], self.area[places])

    @classmethod
    def of(cls, boxes: object, labels: object) -> Objects:
        """Return objects that are no crowd and as large as their boxes.

        Example:
            >>> Objects.of([[1, 2, 4, 6]], [0]).area
            array([12.], dtype=float32)
        """
        corners = np.asarray(boxes, np.float32).reshape(-1, 4)
        area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        return cls(corners, np.asarray(labels, np.int64).reshape(-1), np.zeros(len(corners), np.bool_), area)
