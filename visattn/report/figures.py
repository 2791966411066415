"""How the report writes its figures; what is not known is a dash."""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def sentence(text: str) -> str:
    """Write words as the beginning of a sentence.

    Example:
        >>> sentence("average precision")
        'Average precision'
    """
    return text[:1].upper() + text[1:]


def percent(fraction: float) -> str:
    """Write a fraction in percent.

    Example:
        >>> percent(0.7123)
        '71.2'
    """
    return DASH if not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def points(fraction: float, *, signed: bool = True) -> str:
    """Write a difference of fractions in percentage points.

    Example:
        >>> points(0.0123)
        '+1.2'
    """
    if not math.isfinite(fraction):
        return DASH
    text = f"{100 * fraction:.1f}"
    if float(text) == 0:
        return "0.0"
    return text.replace("-", MINUS) if fraction < 0 or not signed else f"+{text}"


def p_value(p: float) -> str:
    """Write a p value in two digits.

    Example:
        >>> p_value(0.03125), p_value(1e-5)
        ('0.031', '< 0.001')
    """
    if not math.isfinite(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def count(value: float) -> str:
    """Write a count with a letter for thousands.

    Example:
        >>> count(11_689_512), count(950)
        ('11.69 M', '950')
    """
    if not math.isfinite(value):
        return DASH
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.{2 if value < 100 * size else 0}f} {letter}"
    return f"{value:.0f}"


def growth(ratio: float) -> str:
    """Write a ratio as a change in percent.

    Example:
        >>> growth(1.021)
        '+2.1 %'
    """
    if not math.isfinite(ratio):
        return DASH
    change = 100 * (ratio - 1)
    if change == 0:
        return "0 %"
    digits = 1 if abs(change) >= 0.95 else 2
    return f"{change:+.{digits}f} %".replace("-", MINUS)


def times(ratio: float, digits: int = 2) -> str:
    """Write a ratio.

    Example:
        >>> times(1.234).rstrip(TIMES)
        '1.23'
    """
    return DASH if not math.isfinite(ratio) else f"{ratio:.{digits}f}{TIMES}"


def size(amount: float) -> str:
    """Write bytes.

    Example:
        >>> size(3 * 1024 * 1024)
        '3.0 MiB'
    """
    if not math.isfinite(amount):
        return DASH
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if amount >= limit:
            return f"{amount / limit:.1f} {unit}"
    return f"{amount:.0f} B"


def ratio(value: float) -> str:
    """Write a plain figure in two decimals.

    Example:
        >>> ratio(1.234)
        '1.23'
    """
    return DASH if not math.isfinite(value) else f"{value:.2f}".replace("-", MINUS)


def rate(value: float) -> str:
    """Write a rate, such as images a second.

    Example:
        >>> rate(1450.2)
        '1,450'
    """
    return DASH if not math.isfinite(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def milliseconds(value: float) -> str:
    """Write a time in milliseconds.

    Example:
        >>> milliseconds(4.123), milliseconds(412.3)
        ('4.12 ms', '412 ms')
    """
    return DASH if not math.isfinite(value) else f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} ms"
