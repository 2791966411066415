"""Maps: recorded by ``capture``, compared with ``grad_cam``, scored and drawn.

Drawing stays in ``visattn.maps.render`` and ``visattn.maps.draw``, which load Pillow and colour tables.
"""

from visattn.maps.capture import MapInfo, Maps, capture, map_keys
from visattn.maps.crop import to_pictures
from visattn.maps.gradcam import grad_cam
from visattn.maps.score import energy_in_object, entropy, pointing_game, rank_auc, saturation

__all__ = [
    "MapInfo",
    "Maps",
    "capture",
    "energy_in_object",
    "entropy",
    "grad_cam",
    "map_keys",
    "pointing_game",
    "rank_auc",
    "saturation",
    "to_pictures",
]
