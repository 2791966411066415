"""Detectors over any host: a pyramid of its maps, and torchvision's four detectors on it, one a file."""

# Each is a file here with a function `build`; listing them loads no torch.
ARCHITECTURES = ("fasterrcnn", "retinanet", "fcos", "ssd")
