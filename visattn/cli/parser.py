"""argparse with the house's manners: one line for bad input, status 2."""

from __future__ import annotations

import argparse
from typing import NoReturn

from visattn.types import UsageError


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are ``UsageError``; a prefix of an option is not the option."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"visattn {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the message with the options that would be valid."""
        options = [o for action in self._actions for o in action.option_strings[-1:] if o != "--help"]
        raise UsageError(f"{self.prog.removeprefix('visattn ')}: {message}; options: {', '.join(options) or 'none'}")
