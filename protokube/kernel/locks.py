"""Who holds a lock on a file, from /proc/locks (see proc(5)). The lock itself is never touched."""

from __future__ import annotations

import os


def flock_holder(status: os.stat_result) -> int | None:
    """The pid of the process that took a BSD lock (flock) on a file.

    None when no process has one, or a process of another PID namespace, which is shown as 0.
    """
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == place:
                return int(fields[4]) or None
    return None
