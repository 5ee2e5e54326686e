"""The program: `python -m nodeup`, and the script `nodeup`."""

import gc
import sys


def main() -> int:
    """Load the command line, run it, and return its exit code."""
    # As in protokube/__main__.py: what is imported stays.
    gc.disable()
    from nodeup import cli

    gc.freeze()
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
