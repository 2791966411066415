"""Attention specs as they are typed on the command line: YAML, in one line."""

from __future__ import annotations

from typing import Any

import yaml

from visattn.types import UsageError


def read_spec(text: str) -> Any:
    """Return what ``text`` says.

    Raises:
        UsageError: it is no YAML.

    Example:
        >>> read_spec("cbam"), read_spec("{block: se, reduction: 8}")
        ('cbam', {'block': 'se', 'reduction': 8})
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "it holds characters that YAML has no place for"
        raise UsageError(
            f"attention {text!r} cannot be read as YAML: {reason}; valid: cbam, '{{block: se}}'"
        ) from error
