"""``python -m visattn`` is the same program as ``visattn``."""

from visattn.cli.main import main

if __name__ == "__main__":
    main()
