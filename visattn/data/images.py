"""Pictures on disk: find them, read them as RGB whatever their mode, fit them to a square."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from visattn.types import UsageError

Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3), RGB, 0 to 255

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sorting key that puts "2" before "10".

    Example:
        >>> sorted(["10", "b", "2", "a10", "a9"], key=natural_key)
        ['2', '10', 'a9', 'a10', 'b']
    """
    parts = re.split(r"([0-9]+)", text)
    # ties such as "02" and "2", "a" and "A" are broken by the text itself
    key = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part)
    return (*key, (2, 0, text))


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def pictures_under(folder: Path) -> list[Path]:
    """Return the pictures of ``folder`` and its subfolders in natural order, hidden ones left out."""
    found = [path for path in _walk(folder) if path.suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def find_images(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the pictures that ``where`` names: a folder (searched to its depths), a file, or a list of both.

    Args:
        where: folders are searched for files with a known suffix, in natural order; files are taken as they are.

    Raises:
        UsageError: a path does not exist, or there is no picture at all.

    Example:
        >>> find_images("no/such/folder")
        Traceback (most recent call last):
        visattn.types.UsageError: no such file or folder: no/such/folder
    """
    places = [Path(where)] if isinstance(where, str | Path) else [Path(place) for place in where]
    found: list[Path] = []
    for place in (place.expanduser() for place in places):
        if place.is_dir():
            found += pictures_under(place)
        elif place.is_file():
            found.append(place)
        else:
            raise UsageError(f"no such file or folder: {place}")
    if not found:
        shown = ", ".join(str(place) for place in places[:3]) or "an empty list"
        raise UsageError(f"no pictures in {shown}; known suffixes: {' '.join(SUFFIXES)}")
    return found


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode[0] in "IF":  # 16 or 32 bits a pixel, which PIL would cut off at 255
        values = np.asarray(image, dtype=np.float64)
        top = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
        image = Image.fromarray(np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        # what lies under transparent pixels is arbitrary: show what a viewer shows, on white
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_image(path: str | Path) -> Picture:
    """Return the picture at ``path``, turned upright by its EXIF tag, as RGB bytes ``(H, W, 3)``.

    Grey, palette, CMYK and 16-bit pictures are converted, transparent ones laid on white; of an animation
    the first frame counts.

    Raises:
        UsageError: the file is missing, not a picture, or damaged.

    Example:
        >>> read_image("missing.jpg")
        Traceback (most recent call last):
        visattn.types.UsageError: no such picture: missing.jpg
    """
    try:
        with Image.open(path) as image:
            return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise UsageError(f"no such picture: {path}") from None
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"cannot read picture {path}: {reason}") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of the picture at ``path``, upright, from its header alone.

    Raises:
        UsageError: the file is missing or not a picture.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except FileNotFoundError:
        raise UsageError(f"no such picture: {path}") from None
    except _BROKEN as error:
        raise UsageError(f"cannot read picture {path}: {error}") from error


def fit_square(image: Picture, size: int) -> Picture:
    """Scale the smaller side to ``size`` and cut the centre out: ``(size, size, 3)``.

    A picture of that size comes back as it is.

    Example:
        >>> fit_square(np.zeros((100, 60, 3), np.uint8), 32).shape
        (32, 32, 3)
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    # averaging areas is the only interpolation of OpenCV that does not alias when it shrinks
    scaled = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (shape[1] - size) // 2, (shape[0] - size) // 2
    return cast("Picture", scaled)[top : top + size, left : left + size]
