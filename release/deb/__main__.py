"""python -m release.deb PYZ FOLDER."""

import sys
from pathlib import Path

from release.deb.build import build

print(build(Path(sys.argv[1]), Path(sys.argv[2])))
