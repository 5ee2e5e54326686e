"""python -m release.pyz TARGET."""

import sys
from pathlib import Path

from release.pyz.build import build

build(Path(sys.argv[1]))
