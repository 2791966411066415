"""Score a checkpoint on the test set: the same program as ``visattn test``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["test", *sys.argv[1:]])
