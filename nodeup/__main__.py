"""`python -m nodeup`."""

import sys

from nodeup.cli import main

sys.exit(main())
