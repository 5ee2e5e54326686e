"""Which cloud this machine runs in, as its firmware and hypervisor say."""

from __future__ import annotations

import re
from pathlib import Path

# A UUID that begins with "ec2" is no sign: Xen's on EC2 do, and so does one of 4,096 anywhere else.
_EC2 = (
    ("class/dmi/id/sys_vendor", re.compile(r"amazon ec2")),  # Nitro, and bare metal
    ("class/dmi/id/bios_version", re.compile(r"[0-9.]+\.amazon")),  # Xen: 4.2.amazon
    ("hypervisor/version/extra", re.compile(r"\.amazon")),  # Xen without firmware, that is, paravirtual
)


def detect_cloud(sysfs: Path = Path("/sys")) -> str:
    """`aws` on EC2, else the `local` cloud."""
    for name, sign in _EC2:
        try:
            text = (sysfs / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        if sign.fullmatch(text.strip().lower()):
            return "aws"
    return "local"
