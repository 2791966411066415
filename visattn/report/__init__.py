"""From a comparison's stored results to a table, plots, ``report.html`` and ``report.md``."""

from visattn.report.write import write_report

__all__ = ["write_report"]
