"""The look of every plot: colours that the colour-blind can tell apart, a phone's width, SVG that follows the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.2  # inches: 403 CSS pixels, so that 9 point letters stay readable on a phone of 390

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
