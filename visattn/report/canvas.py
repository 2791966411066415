"""The look of every plot: colours that the colour-blind can tell apart, a phone's width, SVG that follows the page."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visattn.report.statistics import Interval

WIDTH = 4.2  # inches: 403 CSS pixels, so that 9 point letters stay readable on a phone of 390
HEIGHT = 2.9

INK, MUTED, GRID, PAPER = "#1c2733", "#5d6876", "#dde2e8", "#fefefe"
BASELINE = "#6b7785"
# Okabe and Ito's colours without yellow, which vanishes on white; with markers, for those who see no colour
ARMS = ("#0072b2", "#d55e00", "#009e73", "#b8589a", "#c98a00", "#3a9fd4")
MARKERS = ("s", "^", "D", "v", "P", "X")

# What the page puts in place of a colour, so that the plots follow its light and dark dress.
ROLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", BASELINE: "--arm-base"} | {
    colour: f"--arm-{index}" for index, colour in enumerate(ARMS)
}

_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # wider than what browsers put in its place, so nothing can collide there
    "font.size": 9.0,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "lines.solid_capstyle": "round",
}


def dress(index: int, *, is_baseline: bool) -> tuple[str, str]:
    """Return colour and marker of the ``index``-th block, or of the baseline.

    Example:
        >>> dress(0, is_baseline=False)
        ('#0072b2', 's')
    """
    if is_baseline:
        return BASELINE, "o"
    # the second round pairs each colour with another marker
    return ARMS[index % len(ARMS)], MARKERS[(index + index // len(ARMS)) % len(MARKERS)]


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the report's style, and leave matplotlib's settings as they were."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # names in scripts that matplotlib's font lacks: the browser has the letters
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from font")
        yield


def axes(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of ``height`` inches and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def shorten(text: str, limit: int = 20) -> str:
    """Cut a name that would push the plot aside.

    Example:
        >>> shorten("a very long name of an arm", 12)
        'a very long…'
    """
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def row_axes(names: Sequence[str], height: float = 0.5) -> tuple[Figure, Axes]:
    """Return a figure with a row for each name, the first on top."""
    figure, ax = axes(max(HEIGHT, 0.62 + height * len(names)))
    ax.set_yticks(range(len(names)), [shorten(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
    for place in range(1, len(names)):
        ax.axhline(place - 0.5, color=GRID, linewidth=0.5, zorder=0)
    return figure, ax


def draw_interval(ax: Axes, interval: Interval, height: float, colour: str, marker: str) -> None:
    """Draw a mean and its interval across a row."""
    if interval.seeds > 1:
        ax.plot([100 * interval.low, 100 * interval.high], [height, height], color=colour, linewidth=2.2, alpha=0.55)
    ax.plot(
        100 * interval.mean, height, marker, color=colour, markersize=7.5, markeredgecolor=PAPER, markeredgewidth=0.7
    )


def fit_axis(ax: Axes, intervals: Sequence[Interval], values: Sequence[float], axis: str = "x") -> None:
    """Show whole intervals, but let the huge ones of two seeds run off the frame rather than squash the dots."""
    low, high = min(values), max(values)
    room = 3 * max(high - low, 0.005)
    ends = [end for item in intervals for end in (item.low, item.high) if math.isfinite(end)]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = 0.06 * max(high - low, 0.005)
    set_limits = ax.set_xlim if axis == "x" else ax.set_ylim
    set_limits(100 * (low - margin), 100 * (high + margin))


def add_legend(figure: Figure, ax: Axes) -> None:
    """Name the arms above the plot, which keeps its own height."""
    handles, labels = ax.get_legend_handles_labels()
    widest = max(map(len, labels))
    columns = max(1, min(len(labels), 4 if widest <= 6 else 3 if widest <= 9 else 2))
    figure.set_figheight(figure.get_figheight() + 0.18 * (math.ceil(len(labels) / columns) - 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def to_svg(figure: Figure, name: str) -> bytes:
    """Return the figure as an SVG file of its own; the same figure gives the same bytes.

    Args:
        figure: one of ``visattn.report.plots``.
        name: tells its inner names from those of other figures on the same page.
    """
    buffer = io.BytesIO()
    with styled(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def to_png(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """Return the figure as a PNG file on white."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_inline(figure: Figure, name: str) -> str:
    """Return the figure as an ``<svg>`` element for a page that defines the colours of ``ROLES``."""
    text = to_svg(figure, name).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    opening, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    # group names repeat from figure to figure; those of <defs> are hashes salted with ``name``
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    for colour, role in ROLES.items():
        body = body.replace(colour, f"var({role})")
    return f'<svg {box.group() if box else ""} role="img" aria-label="{name}">{body}'
