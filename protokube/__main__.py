"""The program: `python -m protokube`, and the script `protokube`."""

import gc
import sys


def main() -> int:
    """Load the command line, run it, and return its exit code."""
    # What is imported stays: collecting while it is made takes a tenth of the start, and frees nothing.
    gc.disable()
    from protokube import cli

    gc.freeze()
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
