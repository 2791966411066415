"""Compare attention with its baseline: the same program as ``visattn compare``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
