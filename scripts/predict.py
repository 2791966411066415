"""Name the pictures of a folder: the same program as ``visattn predict``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
