import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from sklearn.datasets import load_sample_image

from visattn.maps.canvas import GAP, INK, PAPER, UNKNOWN, fitted, scale, text_width
from visattn.maps.render import overlay, plain, save_jpeg, sheet, strip
from visattn.types import UsageError


def photograph(height=64, width=64):
    return np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((width, height)))


def picture_of(drawing, size):
    return np.asarray(drawing)[GAP : GAP + size[1], GAP : GAP + size[0]].astype(int)


def bar_of(drawing, size):
    """The colours of the colour bar, bottom to top."""
    return np.asarray(drawing)[GAP : GAP + size[1], 2 * GAP + size[0]][::-1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (-1, 3)])
def test_the_colour_bar_is_the_colour_map_whatever_the_map_holds(low, high):
    size = (256, 256)
    expected = colormaps["inferno"](np.linspace(0, 1, 256), bytes=True)[:, :3]
    for values in (np.full((4, 4), low), np.full((4, 4), high), np.random.default_rng(0).random((9, 5)) * 0.1):
        drawing = overlay(photograph(256, 256), values, low=low, high=high)
        assert np.abs(bar_of(drawing, size).astype(int) - expected).max() <= 1


def test_a_value_has_one_colour_in_every_picture():
    grey = np.full((200, 200, 3), 100, np.uint8)
    flat = picture_of(overlay(grey, np.full((4, 4), 0.5), low=0, high=1), (200, 200))
    steep = np.full((4, 4), 0.5)
    steep[0] = 1.0
    mixed = picture_of(overlay(grey, steep, low=0, high=1), (200, 200))
    assert (flat == flat[0, 0]).all()
    assert (mixed[-50:] == flat[-50:]).all()  # a hot spot elsewhere moves nothing
    assert (mixed[0] != flat[0]).any()
    narrow = picture_of(overlay(grey, np.full((4, 4), 0.5), low=0, high=2), (200, 200))
    assert (narrow != flat).any()


@pytest.mark.parametrize("value", [-5.0, 0.0, 1.0, 7.0, float("inf")])
def test_values_beyond_the_scale_take_the_colour_of_its_end(value):
    assert (scale(0, 1).colors(np.clip(value, 0, 1)) == scale(0, 1).colors(min(value, 9))).all()


def test_values_that_are_none_are_grey():
    grey = np.full((200, 200, 3), 100, np.uint8)
    drawing = picture_of(overlay(grey, np.full((4, 4), np.nan), low=0, high=1, caption="x"), (200, 200))
    assert np.abs(drawing - (0.45 * 100 + 0.55 * np.array(UNKNOWN))).max() <= 1


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((64, 64), None, (192, 192)),
        ((30, 60), None, (192, 96)),
        ((300, 400), None, (400, 300)),
        ((300, 400), 200, (200, 150)),
        ((1, 1), 40, (40, 40)),
        ((2, 500), 100, (100, 1)),
    ],
)
def test_pictures_take_the_size_asked_for_and_small_ones_grow(shape, size, expected):
    drawing = plain(np.zeros((*shape, 3), np.uint8), size=size)
    assert drawing.size == (expected[0] + 2 * GAP, expected[1] + 2 * GAP)
    assert (picture_of(drawing, expected) == 0).all()
    tall = overlay(np.zeros((*shape, 3), np.uint8), np.ones((2, 3)), low=0, high=1, size=size)
    assert tall.width > drawing.width
    assert tall.height > drawing.height


@pytest.mark.parametrize("kind", ["tensor", "bfloat16", "array"])
def test_the_map_is_upsampled_over_the_picture_and_the_picture_shows(kind):
    image, values = photograph(), np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    if kind != "array":
        image, values = torch.tensor(image), torch.tensor(values)
        values = values.bfloat16() if kind == "bfloat16" else values
    drawing = picture_of(overlay(image, values, low=0, high=1), (192, 192))
    cold = picture_of(overlay(image, values * 0, low=0, high=1), (192, 192))
    change = np.abs(drawing - cold).sum(2)
    assert np.unravel_index(change.argmax(), change.shape) == (pytest.approx(72, abs=8), pytest.approx(120, abs=8))
    assert change[120:].max() == 0  # bilinear: nothing beyond the neighbouring cells
    seen = np.corrcoef(cold.mean(2).ravel(), picture_of(plain(image), (192, 192)).mean(2).ravel())[0, 1]
    assert seen > 0.95
    assert drawing.std() > 20


@pytest.mark.parametrize(
    "caption", [None, "one line", "id=3\nlabel=4", "a name without end " * 20, "tab\tbell\a\x1b[31m"]
)
def test_captions_fit(caption):
    for drawing in (
        overlay(photograph(), np.ones((4, 4)), low=0, high=1, caption=caption),
        strip(np.ones(12), low=0, high=1, caption=caption),
        strip(np.ones(99), low=0, high=1, caption=caption),
        plain(photograph(), caption=caption),
    ):
        pixels = np.asarray(drawing)
        edge = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
        assert (edge == PAPER).all()  # nothing runs into the edge


@pytest.mark.parametrize("room", [20, 60, 200])
def test_text_is_shortened_to_its_room(room):
    assert text_width(fitted("a name without end", room, 12), 12) <= room
    assert fitted("ok", 200, 12) == "ok"
    assert fitted("a\nb\x07", 200, 12) == "a b "


def test_bars_are_as_high_as_their_values():
    gate = np.array([0.0, 0.25, 0.5, 1.0])
    plot = picture_of(strip(gate, low=0, high=1), (192, 192))
    for i, value in enumerate(gate):
        column = plot[:, i * 48 + 20]
        fill = scale(0, 1).colors(value)
        assert ((column == fill).all(1).mean()) == pytest.approx(max(value, 1 / 192), abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 64, 65, 100, 2048])
def test_every_channel_is_drawn(count):
    drawing = strip(torch.full((count,), 0.75), low=0, high=1)
    pixels = picture_of(drawing, (192, 192 if count <= 64 else 150))
    fill = (pixels == scale(0, 1).colors(0.75)).all(2)
    assert fill.any(0).mean() > 0.6
    gate = torch.full((count,), 0.75)
    gate[count // 2] = float("nan")
    assert drawing.tobytes() != strip(gate, low=0, high=1).tobytes()


def test_a_sheet_holds_all_pictures_apart_and_unchanged():
    tones = [[(200, 0, 0), (0, 200, 0)], [None, (0, 0, 200)]]
    rows = [[tone and Image.new("RGB", (50 + 10 * r, 40), tone) for tone in row] for r, row in enumerate(tones)]
    drawing = np.asarray(sheet(rows, row_labels=["first", "a very long label " * 9], column_labels=["x", "y"]))
    for row in rows:
        for cell in row:
            if cell:
                tone = cell.getpixel((0, 0))
                assert (drawing == tone).all(2).sum() == cell.width * cell.height
    assert (drawing == INK).all(2).any()


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda: overlay(photograph() / 255.0, np.ones((2, 2)), low=0, high=1), "uint8 .* got float64"),
        (lambda: overlay(photograph().transpose(2, 0, 1), np.ones((2, 2)), low=0, high=1), r"got uint8 \(3, 64, 64\)"),
        (
            lambda: overlay(photograph(), np.ones((1, 2, 2)), low=0, high=1),
            r"needs shape \(h, w\) .* got shape \(1, 2, 2\)",
        ),
        (lambda: overlay(photograph(), np.ones((2, 0)), low=0, high=1), r"got shape \(2, 0\)"),
        (lambda: overlay(photograph(), np.ones((2, 2)), low=1, high=1), "low < high, got 1 and 1"),
        (lambda: strip(np.ones((2, 2)), low=0, high=1), r"needs shape \(C,\)"),
        (lambda: strip(np.ones(2), low=0, high=float("nan")), "low < high"),
        (lambda: sheet([]), "at least one picture"),
        (lambda: sheet([[None]]), "at least one picture"),
        (lambda: sheet([[plain(photograph())]], row_labels=["a", "b"]), "1 rows need 1 row labels, got 2"),
        (lambda: sheet([[plain(photograph())]], column_labels=["a", "b"]), "1 columns need 1 column labels, got 2"),
    ],
)
def test_errors(draw, match):
    with pytest.raises(UsageError, match=match):
        draw()


def test_saved_pictures_are_jpegs_near_the_original(tmp_path):
    drawing = overlay(photograph(), np.eye(5), low=0, high=1, caption="id=1")
    path = save_jpeg(drawing, tmp_path / "a" / "b.jpg")
    with Image.open(path) as read:
        assert read.format == "JPEG"
        assert read.size == drawing.size
        assert np.abs(np.asarray(read).astype(int) - np.asarray(drawing)).mean() < 4
