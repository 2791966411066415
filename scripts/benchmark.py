"""Measure what attention costs: the same program as ``visattn bench model``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["bench", "model", *sys.argv[1:]])
