"""Shows the section ``Example:`` of docstrings as code: the parser of the API page knows ``Examples:`` alone."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Rename the section in each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change ``obj`` alone; mkdocstrings calls this once for each name it reads."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
