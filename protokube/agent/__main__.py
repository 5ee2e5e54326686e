"""python -m protokube.agent."""

import sys

from protokube.agent.cli import main

sys.exit(main())
