"""Pictures of any mode come back upright, as RGB bytes; damaged ones are named."""

import numpy as np
import pytest
from PIL import Image

from visattn.data import find_images, read_image
from visattn.data.images import fit_square, natural_key
from visattn.types import UsageError

RED, GREEN, GREY = (200, 30, 40), (20, 180, 60), (90, 90, 90)


def halves(left, right):
    """Left half of one colour, right half of another: 12 wide, 8 high."""
    return np.concatenate([np.full((8, 6, 3), left, np.uint8), np.full((8, 6, 3), right, np.uint8)], axis=1)


def clear_left(mode):
    return Image.fromarray(
        np.dstack([halves(RED, GREEN), np.repeat([0, 255], 6) * np.ones((8, 1))]).astype(np.uint8)
    ).convert(mode)


def palette_with_transparency():
    image = Image.new("P", (12, 8))
    image.putpalette([*RED, *GREEN])
    image.paste(1, (6, 0, 12, 8))
    return image


SIXTEEN = np.where(np.arange(12) < 6, 65535, 90 * 257) * np.ones((8, 1))
WHITE = (255, 255, 255)
MODES = {
    "rgb.png": (Image.fromarray(halves(RED, GREEN)), {}, RED, GREEN),
    "grey.png": (Image.fromarray(halves(WHITE, GREY)).convert("L"), {}, WHITE, GREY),
    "one-bit.png": (Image.fromarray(halves(WHITE, (0, 0, 0))).convert("1"), {}, WHITE, (0, 0, 0)),
    "grey-alpha.png": (clear_left("LA"), {}, WHITE, None),
    "rgba.png": (clear_left("RGBA"), {}, WHITE, GREEN),
    "palette.png": (palette_with_transparency(), {}, RED, GREEN),
    "palette-transparent.png": (palette_with_transparency(), {"transparency": 0}, WHITE, GREEN),
    "palette.gif": (palette_with_transparency(), {}, RED, GREEN),
    "cmyk.tif": (Image.fromarray(halves(RED, GREEN)).convert("CMYK"), {}, RED, GREEN),
    "sixteen.png": (Image.fromarray(SIXTEEN.astype(np.uint16)), {}, WHITE, GREY),
    "thirty-two.tif": (Image.fromarray(SIXTEEN.astype(np.int32)), {}, WHITE, GREY),
    "float.tif": (Image.fromarray((SIXTEEN / 65535).astype(np.float32)), {}, WHITE, GREY),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_bytes(name, tmp_path):
    image, how, left, right = MODES[name]
    image.save(tmp_path / name, **how)
    pixels = read_image(tmp_path / name)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (8, 12, 3))
    assert pixels.flags.writeable
    assert np.abs(pixels[:, :6].astype(int) - left).max() <= 1
    if right is not None:
        assert np.abs(pixels[:, 6:].astype(int) - right).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(orientation, tmp_path):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = 255  # white top left
    undo = {  # how a camera that writes this tag has stored the picture
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation](upright))).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "text.jpg", "empty.png"])
def test_damaged_files_are_named(name, tmp_path):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    if name.startswith("cut"):
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_bytes(b"no picture" if name.startswith("text") else b"")
    with pytest.raises(UsageError, match=name) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_searched_in_natural_order_without_hidden_files(tmp_path):
    for name in (
        "b/10.png",
        "b/2.PNG",
        "a.jpeg",
        "notes.txt",
        ".hidden.png",
        ".cache/x.png",
        "__MACOSX/y.png",
        "b/._2.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.jpeg", "b/2.PNG", "b/10.png"]
    assert find_images([str(tmp_path / "b"), tmp_path / "notes.txt"]) == [*found[1:], tmp_path / "notes.txt"]


@pytest.mark.parametrize("where", ["nowhere", "empty", []])
def test_finding_nothing_is_an_error(where, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"nowhere|no pictures in .*\.png"):
        find_images(tmp_path / where if where else where)


def test_natural_order_is_total():
    names = ["10", "2", "02", "a", "A", "a2b10", "a2b9", "", "é", "²"]
    assert len({natural_key(name) for name in names}) == len(sorted(names, key=natural_key))


@pytest.mark.parametrize("shape", [(100, 60), (31, 1000), (32, 32), (33, 32), (5, 7), (1, 1), (64, 65)])
def test_squares_show_the_centre(shape):
    ramp = np.linspace(0, 255, shape[1])[None, :, None] * np.ones((shape[0], 1, 3))
    square = fit_square(ramp.astype(np.uint8), 32)
    assert (square.shape, square.dtype) == ((32, 32, 3), np.uint8)
    if max(shape) > 1:
        assert abs(float(square.mean()) - 127.5) < 6
