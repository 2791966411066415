"""Augmentation from YAML. The only file that imports albumentations; everything asked of it passes through here."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from visattn.data.images import Picture, fit_square
from visattn.data.seeding import stable_hash
from visattn.types import UsageError, unknown

Specs: TypeAlias = Sequence[dict[str, Any]]  # [{"HorizontalFlip": {"p": 0.5}}, ...]

# Sizes that a transform takes and its spec leaves out are those of the pictures that the network gets.
_SIZES = ("size", "height", "width", "max_size", "min_height", "min_width")
_UNSET = (inspect.Parameter.empty, None, 1024)  # what albumentations' signatures say of a size that one must give
_GROUPS = ("OneOf", "RandomOrder", "Sequential", "SomeOf")

# What becomes of boxes: cut at the picture's edge, and dropped when less than a quarter or a pixel of them is left
_BOXES = {"format": "pascal_voc", "label_fields": ["places"], "clip": True, "filter_invalid_bboxes": True}
_LEAST = {"min_visibility": 0.25, "min_area": 1.0}


def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks the network for a newer version
    try:
        import albumentations
    except ImportError:
        raise UsageError(
            "transforms need albumentations, which is not installed: pip install 'albumentations>=2.0.8,<2.1'"
        ) from None
    return albumentations


def transform_names() -> list[str]:
    """Return the names that a pipeline may use.

    Example:
        >>> "HorizontalFlip" in transform_names()
        True
    """
    package = _albumentations()
    kinds = (package.ImageOnlyTransform, package.DualTransform)
    found = {name: value for name, value in vars(package).items() if inspect.isclass(value)}
    return sorted(
        name for name, value in found.items() if name in _GROUPS or (issubclass(value, kinds) and value not in kinds)
    )


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("For further information"))


def _sizes(size: int | None) -> dict[str, Any]:
    return {} if size is None else {key: (size, size) if key == "size" else size for key in _SIZES}


def _transform(spec: Any, size: int | None) -> Any:
    if not isinstance(spec, dict) or len(spec) != 1:
        raise UsageError(
            f"a transform is one name with its arguments, such as {{HorizontalFlip: {{p: 0.5}}}}; got {spec!r}"
        )
    ((name, given),) = spec.items()
    names = transform_names()
    if name not in names:
        raise unknown("transform", name, names)
    if not isinstance(given, dict | None):
        raise UsageError(f"the arguments of {name} must be a mapping such as {{p: 0.5}}, got {given!r}")
    factory = getattr(_albumentations(), name)
    taken = {key: one.default for key, one in inspect.signature(factory).parameters.items() if key != "kwargs"}
    arguments = dict(given or {})
    for argument in arguments:
        if argument not in taken:
            raise unknown(f"argument of {name}", argument, taken)
    if name in _GROUPS:
        arguments["transforms"] = [_transform(one, size) for one in arguments.get("transforms") or []]
    elif not {"max_size_hw", *_SIZES} & arguments.keys():
        arguments |= {key: value for key, value in _sizes(size).items() if taken.get(key, 0) in _UNSET}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", UserWarning
            )  # the package warns of a wrong value and goes on with its default
            return factory(**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        raise UsageError(f"transform {name} refuses {given!r}: {_one_line(error)}") from error


@final
class Pipeline:
    """Augment a picture, then fit it to a square; what chance decides depends on the given integers alone.

    Args:
        specs: transforms in their order, each ``{name: arguments}``; empty only fits to the square.
        size: side of the pictures that come out; None lets each have its own size, and boxes move along.

    Raises:
        UsageError: an unknown name or argument, a refused value, or a transform that does not yield RGB bytes.

    Example:
        >>> Pipeline([], 32)(np.zeros((50, 40, 3), np.uint8)).shape
        (32, 32, 3)
    """

    def __init__(self, specs: Specs, size: int | None) -> None:
        if size is not None and size < 1:
            raise UsageError(f"image_size must be at least 1, got {size}")
        self._size = size
        self._compose: Any = None
        self._names = ", ".join(name for spec in specs if isinstance(spec, dict) for name in spec)
        if specs:
            self._compose = self._composed([_transform(spec, size) for spec in specs])
            # once now, on a large picture: most mistakes need not wait for the first epoch
            side = size or 256
            trial = np.arange(6 * side**2 * 3, dtype=np.uint8).reshape(2 * side, 3 * side, 3)
            self(trial) if size else self.boxed(trial, np.array([[side, side, 2 * side, 2 * side]], np.float32))

    def __call__(self, image: Picture, *seed: int) -> Picture:
        """Return ``image`` ``(H, W, 3)`` augmented as ``seed`` decides: ``(size, size, 3)``."""
        if self._size is None:
            return self.boxed(image, np.empty((0, 4), np.float32), *seed)[0]
        if self._compose is not None:
            image = self._run(stable_hash(*seed), image=image)["image"]
        return fit_square(image, self._size)

    def boxed(
        self, image: Picture, boxes: NDArray[np.float32], *seed: int
    ) -> tuple[Picture, NDArray[np.float32], NDArray[np.int64]]:
        """Return a picture with its boxes ``(n, 4)`` (xyxy, in pixels), augmented as ``seed`` decides.

        Returns:
            The picture, the boxes ``(m, 4)`` that are left in it, and the places ``(m,)`` that these had among the
            given ones. Boxes are cut at the picture's edge; one of which less than a quarter is left is dropped.

        Example:
            >>> flip = Pipeline([{"HorizontalFlip": {"p": 1}}], None)
            >>> flip.boxed(np.zeros((50, 40, 3), np.uint8), np.array([[0, 5, 10, 20]], np.float32))[1].round(3)
            array([[30.,  5., 40., 20.]], dtype=float32)
        """
        places = np.arange(len(boxes), dtype=np.int64)
        if self._compose is None:
            return image, boxes, places
        result = self._run(stable_hash(*seed), image=image, bboxes=boxes, places=places)
        # 2.0.8 hands back lists, floats and shape (0,), according to what was dropped
        left = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
        return result["image"], left, np.asarray(result["places"], np.float64).astype(np.int64).reshape(-1)

    def _composed(self, transforms: list[Any]) -> Any:
        package = _albumentations()
        if self._size is not None:
            return package.Compose(transforms)
        with warnings.catch_warnings():  # colours leave boxes where they are: no reason to warn
            warnings.filterwarnings("ignore", "Got processor for bboxes", UserWarning)
            return package.Compose(transforms, bbox_params=package.BboxParams(**_BOXES, **_LEAST))

    def _run(self, word: int, **data: Any) -> dict[str, Any]:
        # Not set_random_seed: it gives every transform its own generator with the same seed, so that two
        # transforms of p=0.5 would always act together. One generator, shared, and fresh per sample.
        self._compose.set_random_state(np.random.Generator(np.random.PCG64(word)), random.Random(word))
        height, width = data["image"].shape[:2]
        try:
            result = cast("dict[str, Any]", self._compose(**data))
        except Exception as error:  # whatever a transform raises: it names the picture's size or an argument
            size = f"{width}x{height}"
            raise UsageError(f"the transforms {self._names} fail on a picture of {size}: {_one_line(error)}") from error
        image = result["image"]
        if image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise UsageError(
                f"the transforms {self._names} yield {image.dtype} of shape {tuple(image.shape)}; "
                "they must yield RGB bytes (normalising is done on the device)"
            )
        return result


def default_train() -> list[dict[str, Any]]:
    """Return the training transforms of photographs: nothing that changes what a letter or a hand means.

    Example:
        >>> [name for spec in default_train() for name in spec]
        ['RandomResizedCrop', 'ColorJitter']
    """
    jitter = {
        "brightness": [0.8, 1.2],
        "contrast": [0.8, 1.2],
        "saturation": [0.8, 1.2],
        "hue": [-0.02, 0.02],
        "p": 0.8,
    }
    # the area rule: plain linear interpolation aliases when a large photograph shrinks
    return [{"RandomResizedCrop": {"scale": [0.6, 1.0], "area_for_downscale": "image"}}, {"ColorJitter": jitter}]


def default_boxed(flip: bool) -> list[dict[str, Any]]:
    """Return the training transforms of pictures with boxes: mild, since the detector itself varies the size.

    Args:
        flip: mirror half of the pictures, which changes letters, digits and road signs.

    Example:
        >>> [name for spec in default_boxed(flip=True) for name in spec]
        ['HorizontalFlip', 'Affine', 'ColorJitter']
    """
    scale = {"scale": [0.8, 1.25], "translate_percent": [-0.1, 0.1], "keep_ratio": True, "fill": 114, "p": 0.5}
    mirror: list[dict[str, Any]] = [{"HorizontalFlip": {"p": 0.5}}] if flip else []
    return [*mirror, {"Affine": scale}, default_train()[-1]]


def eval_transform(image_size: int, specs: Specs | None = None) -> Callable[[Picture], Picture]:
    """Return what turns a picture into the network's input, from a data module's hyper-parameters alone.

    Args:
        image_size: side of the square that comes out.
        specs: ``eval_transforms`` of the data module; None scales the smaller side and cuts the centre out.

    Returns:
        A callable from RGB bytes ``(H, W, 3)`` to RGB bytes ``(image_size, image_size, 3)``.

    Example:
        >>> eval_transform(48)(np.zeros((100, 100, 3), np.uint8)).shape
        (48, 48, 3)
    """
    return Pipeline(specs or [], image_size)


def one_thread(_worker: int) -> None:
    """Keep OpenCV from starting a thread per core in each worker process."""
    cv2.setNumThreads(0)
