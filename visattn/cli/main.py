"""The dispatcher: it knows the commands' names, and imports a command only to run it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from visattn import __version__
from visattn.types import UsageError, unknown

COMMANDS = {
    "demo": "compare a small CNN with and without attention on embedded data, in a few minutes",
    "fit": "train, then test: visattn fit --config FILE [--model.attention=cbam]; --resume RUN goes on",
    "validate": "score a checkpoint on the validation set",
    "test": "score a checkpoint on the test set",
    "predict": "name the pictures of a folder: a CSV",
    "compare": "run {attention} x {seed} from one experiment file and report: run, plan",
    "report": "rebuild report.html from a comparison's stored results",
    "maps": "draw where a network looks, for a folder of pictures",
    "data": "look a folder of pictures over before training, boxes included: visattn data check FOLDER",
    "sites": "list the places of a backbone that could take a block",
    "blocks": "list the attention blocks",
    "bench": "measure the cost of attention against the plain backbone",
    "export": "write a checkpoint as ONNX, with its maps if you like",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with one line on stderr and status 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        sys.exit(_run(args))
    except UsageError as error:
        print(f"visattn: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("visattn: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except (
        OSError
    ) as error:  # a place that cannot be read or written: its name and the system's reason are all there is
        what = f"cannot read or write {error.filename}: " if error.filename else ""
        print(f"visattn: {what}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)


def _run(args: list[str]) -> int:
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
        return 0
    if args[0] in {"-V", "--version"}:
        print(f"visattn {__version__}")
        return 0
    name, *rest = args
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    module = "train" if name in {"fit", "validate", "test"} else name
    run = import_module(f"visattn.cli.{module}").run
    status: int = run(name, rest) if module == "train" else run(rest)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "visattn: spatial and channel attention for any CNN, compared honestly\n\n"
        f"usage: visattn COMMAND [options]; visattn COMMAND --help\n\n{rows}\n\n"
        "Start with: visattn demo"
    )
