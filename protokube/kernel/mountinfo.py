"""The mounts of this mount namespace, from /proc/self/mountinfo (see proc(5)). No filesystem is touched."""

from __future__ import annotations

_MOUNTINFO = "/proc/self/mountinfo"


class Line:
    """One mount: `number` is the device's (major, minor), `root` the part of the filesystem that is mounted,
    `target` the mount point, `options` the union of the mount's and the filesystem's own options."""

    __slots__ = ("fstype", "number", "options", "root", "target")

    def __init__(self, text: str) -> None:
        fields = text.split()
        end = fields.index("-", 6)
        major, _, minor = fields[2].partition(":")
        self.number = (int(major), int(minor))
        self.root = _unescape(fields[3])
        self.target = _unescape(fields[4])
        self.fstype = fields[end + 1]
        super_options = fields[end + 3] if len(fields) > end + 3 else ""
        self.options = frozenset(fields[5].split(",")) | frozenset(super_options.split(","))


def _unescape(text: str) -> str:
    """Undo the octal escapes of blank, tab, newline and backslash."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def read() -> list[Line]:
    """Every mount, in the order in which they were made."""
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return [Line(text) for text in file]


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
