"""``visattn report``: the report again, from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visattn.cli.parser import Parser


def run(args: Sequence[str]) -> int:
    """Rebuild ``report.html`` and ``report.md`` of a comparison."""
    parser = Parser("report", "rebuild the report of a comparison from its stored results")
    parser.add_argument("folder", type=Path, help="the comparison's folder")
    from visattn.report.write import write_report

    say_report(write_report(parser.parse_args(args).folder))
    return 0


def say_report(path: Path) -> None:
    """Print the report's verdict and where it lies."""
    verdict = next((line for line in path.with_suffix(".md").read_text().splitlines()[1:] if line.strip()), "")
    print(f"\n{verdict.strip('*_# ')}\n\nreport: {path}", flush=True)
