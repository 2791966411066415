"""jsonargparse's errors, which name the key but not the choices, as one line that does."""

from __future__ import annotations

import re

from visattn.types import UsageError


def reword(error: Exception) -> UsageError:
    """Return a one-line error with what was wrong."""
    text = " ".join(str(error).split())
    text = re.sub(r"\s*-\s*", " - ", text) if len(text) > 400 else text  # noqa: PLR2004
    return UsageError(text[:600])
