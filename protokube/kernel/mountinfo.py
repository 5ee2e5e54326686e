"""The mounts of this mount namespace, from /proc/self/mountinfo (see proc(5)). No filesystem is touched."""

from __future__ import annotations

import errno
import os

_MOUNTINFO = "/proc/self/mountinfo"


class Line:
    """One mount: `id` is its own, `above` that of the mount on which it stands, `number` the device's (major, minor),
    `root` the part of the filesystem that is mounted, `target` the mount point, `options` the union of the mount's
    and the filesystem's own options."""

    __slots__ = ("above", "fstype", "id", "number", "options", "root", "target")

    def __init__(self, text: bytes) -> None:
        try:
            self._parse(text)
        except (ValueError, IndexError) as error:
            raise OSError(errno.EBADMSG, f"a line that can't be understood: {text!r}", _MOUNTINFO) from error

    def _parse(self, text: bytes) -> None:
        fields = text.split(b" ")
        end = fields.index(b"-", 6)
        self.id, self.above = int(fields[0]), int(fields[1])
        major, _, minor = fields[2].partition(b":")
        self.number = (int(major), int(minor))
        self.root = _unescape(fields[3])
        self.target = _unescape(fields[4])
        self.fstype = _unescape(fields[end + 1])
        super_options = fields[end + 3] if len(fields) > end + 3 else b""
        self.options = frozenset(os.fsdecode(fields[5] + b"," + super_options).split(","))


def _unescape(text: bytes) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash (and "#"). It escapes nothing else: a
    carriage return, a vertical tab or bytes that are no UTF-8 stand in a name as they are."""
    first, *rest = text.split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest))


def read() -> list[Line]:
    """Every mount, in the order in which they were made. Raises OSError, also for a line that makes no sense."""
    with open(_MOUNTINFO, "rb") as file:
        return [Line(text) for text in file.read().split(b"\n") if text]


def below(root: str, lines: list[Line]) -> dict[str, Line]:
    """The whole-filesystem mounts at or below a directory, by their path without it; the topmost of each."""
    prefix = "" if root == "/" else root
    found: dict[str, Line] = {}
    for line in lines:
        if line.target == root or line.target.startswith(f"{prefix}/"):
            target = line.target[len(prefix) :] or "/"
            found.pop(target, None)
            if line.root == "/":
                found[target] = line
    return found


def cover(mount: Line, lines: list[Line]) -> Line | None:
    """What hides a mount: another one, at its target or above it, on which it doesn't stand. The newest counts."""
    by_id = {line.id: line for line in lines}
    carries = {mount.id}
    above = by_id.get(mount.above)
    while above is not None and above.id not in carries:
        carries.add(above.id)
        above = by_id.get(above.above)
    covers = [
        line for line in lines if line.id not in carries and f"{mount.target}/".startswith(_inside(line.target))
    ]
    return covers[-1] if covers else None


def _inside(target: str) -> str:
    return target if target == "/" else f"{target}/"
