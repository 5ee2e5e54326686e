"""python -m benchmarks [NAME …]: run all benchmarks, or those named. As root, in namespaces of their own."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

import protokube
from benchmarks import agent, aws, bootstrap, converged, dns_zone_size, hub, kubeleet, pyz

ALL = {
    "bootstrap": bootstrap.main,
    "converged": converged.main,
    "aws": aws.main,
    "dns_zone_size": dns_zone_size.main,
    "agent": agent.main,
    "hub": hub.main,
    "kubeleet": kubeleet.main,
    "pyz": pyz.main,
}


def main() -> int:
    # As pip does when it installs; an editable checkout may have stale bytecode, and nobody allowed to write it.
    compileall.compile_dir(Path(protokube.__file__).parent, quiet=1)
    for name in sys.argv[1:] or ALL:
        print(f"\n## {name}")
        ALL[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
