"""Where a node of its own (SystemdNode) finds this checkout and this Python, wherever they stand on the machine.

A node's systemd empties /tmp, and a node sees the machine's root file system but nothing that is mounted on it. So a
path of this machine says nothing there. These paths hold no space and fit into a `#!` line as well.
"""

from __future__ import annotations

KUBERNETES = "/opt/protokube/kubernetes"
CHECKOUT = "/opt/protokube/checkout"
ENVIRONMENT = "/opt/protokube/environment"
PYTHON = f"{ENVIRONMENT}/bin/python"
