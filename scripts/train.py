"""Train, then test: the same program as ``visattn fit``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
