"""Write a checkpoint as ONNX: the same program as ``visattn export``."""

import sys

from visattn.cli.main import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
