"""A first look at an unmounted ext4 filesystem that changes no byte: debugfs, which opens the disk read-only.

The kernel can't do it: mounted with `ro,noload`, a filesystem with a damaged directory gets the error written into
its superblock. Like `noload`, debugfs doesn't replay the journal, so the newest files may be missing: this look may
refuse a disk, but it never proves that something isn't there.
"""

from __future__ import annotations

from protokube.host.disk.contents import MOST_BYTES, MOST_ENTRIES
from protokube.host.process import Running, tool

_ROOT_INODE = 2
_KINDS = {0o040000: "d", 0o100000: "f"}
_FORMAT = 0o170000
_MOST_LISTING = (MOST_ENTRIES + 3) * 300


class LookFailed(Exception):
    """The filesystem could not be read; the message is debugfs's."""


class DebugfsSource:
    """A Source of host.tree over debugfs. Directories and files are named by their inodes, so that no path is
    resolved and no link followed."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._debugfs = tool("debugfs")
        self._inodes = {"": _ROOT_INODE}

    def _ask(self, request: str, most: int) -> bytes:
        _, text, errors = Running([self._debugfs, "-R", request, self._node]).result(most)
        _banner, _, problem = errors.partition(b"\n")
        if problem:
            raise LookFailed(
                f"debugfs can't read the filesystem: {problem.decode(errors='backslashreplace').strip()}"
            )
        return text

    def entries(self, directory: str) -> list[tuple[str, str]]:
        """See Source. A line is /inode/mode/uid/gid/name/size/; a name with line breaks makes several crippled
        ones, which are names of nobody we know."""
        text = self._ask(f"ls -p <{self._inodes[directory]}>", _MOST_LISTING)
        found: list[tuple[str, str]] = []
        for line in text.split(b"\n"):
            fields = line.split(b"/")
            if len(fields) != 8 or not fields[1].isdigit() or not fields[2].isdigit():
                if line:
                    found.append((line.decode(errors="backslashreplace"), "o"))
                continue
            name = fields[5].decode(errors="backslashreplace")
            if name in (".", "..") or fields[1] == b"0":
                continue
            self._inodes[f"{directory}/{name}" if directory else name] = int(fields[1])
            found.append((name, _KINDS.get(int(fields[2], 8) & _FORMAT, "o")))
        if len(text) == _MOST_LISTING:
            found += [("", "o")] * (MOST_ENTRIES + 1 - len(found))
        return found[: MOST_ENTRIES + 1]

    def content(self, path: str) -> bytes:
        """See Source."""
        return self._ask(f"cat <{self._inodes[path]}>", MOST_BYTES + 1)

    def mtime(self, path: str) -> int | None:  # noqa: ARG002
        """See Source. Only a mounted volume's times matter."""
        return None
