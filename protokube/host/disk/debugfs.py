"""The contents of an unmounted ext4 filesystem without a changed byte: debugfs, which opens the disk read-only.

The kernel can't do it: mounted with `ro,noload`, a filesystem with a damaged directory gets the error written into
its superblock. debugfs doesn't replay the journal either, so after a power cut it may show a mixture of old and new.
`-c` leaves the allocation bitmaps unread: nothing here needs them, and they are the first to disagree in a mixture.
"""

from __future__ import annotations

import os

from protokube.host.disk.contents import MOST_ENTRIES
from protokube.host.process import Running, tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protokube.host.disk.contents import Entry

_ROOT_INODE = 2
_KINDS = {0o040000: "d", 0o100000: "f"}
_FORMAT = 0o170000
_MOST_LISTING = (MOST_ENTRIES + 3) * 300
_SEPARATOR = b"debugfs: cd /\n"
"""debugfs echoes each request that it reads from a file. No name of a file can forge this line: it holds a slash."""
_READ_ERRORS = ("Input/output error", "short read", "Attempt to read block")


class DebugfsError(Exception):
    """The filesystem could not be read; the message is debugfs's. `damaged` says that the disk answered, and what
    stands there is wrong."""

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


class DebugfsSource:
    """A Source of host.disk.contents over debugfs. Directories and files are named by their inodes, so that no path
    is resolved and no link followed."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._debugfs = tool("debugfs")
        self._inodes = {"": _ROOT_INODE}

    def _ask(self, requests: list[str], most: int) -> bytes:
        """The output of several requests, each after a separator; at most `most` bytes of it."""
        script = os.memfd_create("requests")
        try:
            os.write(script, "".join(f"cd /\n{request}\n" for request in requests).encode())
            asked = Running([self._debugfs, "-c", "-f", "/proc/self/fd/3", self._node], keep=script)
        finally:
            os.close(script)
        code, text, errors = asked.result(most)
        _banner, _, problem = errors.partition(b"\n")
        if problem:
            said = problem.decode(errors="backslashreplace").strip()
            damaged = not any(word in said for word in _READ_ERRORS)
            raise DebugfsError(f"debugfs can't read the filesystem: {said}", damaged=damaged)
        if code != os.EX_OK and len(text) < most:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            raise DebugfsError(f"debugfs {how} while it read the filesystem", damaged=False)
        return text

    def listings(self, directories: list[str]) -> list[list[Entry]]:
        """See Source."""
        requests = [f"ls -p <{self._inodes[directory]}>" for directory in directories]
        most = _MOST_LISTING * len(directories)
        text = self._ask(requests, most)
        parts = text.split(_SEPARATOR)[1:]
        cut = len(text) == most
        found = []
        for index, directory in enumerate(directories):
            if index >= len(parts) and not cut:
                raise DebugfsError(f"debugfs did not list the directory {directory!r}", damaged=False)
            # An endless directory uses up what is read, and the ones after it get none of it.
            entries = self._parse(directory, parts[index].partition(b"\n")[2]) if index < len(parts) else []
            found.append(_overflow(entries) if cut and index >= len(parts) - 1 else entries[: MOST_ENTRIES + 1])
        return found

    def _parse(self, directory: str, text: bytes) -> list[Entry]:
        """The entries of one listing. A line is /inode/mode/uid/gid/name/size/; a name with line breaks makes several
        crippled ones, which are no names that we know."""
        found: list[Entry] = []
        for line in text.split(b"\n"):
            fields = line.split(b"/")
            if len(fields) != 8 or not fields[1].isdigit() or not _is_octal(fields[2]):
                if line:
                    found.append((line.decode(errors="backslashreplace"), "o", 0))
                continue
            name = fields[5].decode(errors="backslashreplace")
            if name in (".", "..") or fields[1] == b"0":
                continue
            kind = _KINDS.get(int(fields[2], 8) & _FORMAT, "o")
            self._inodes[f"{directory}/{name}" if directory else name] = int(fields[1])
            found.append((name, kind, int(fields[6]) if kind == "f" and fields[6].isdigit() else 0))
        return found

    def contents(self, files: list[tuple[str, int]]) -> list[bytes]:
        """See Source."""
        if not files:
            return []
        requests = [f"cat <{self._inodes[path]}>" for path, _ in files]
        heads = [_SEPARATOR + f"debugfs: {request}\n".encode() for request in requests]
        most = sum(map(len, heads)) + sum(size for _, size in files) + 1
        text = self._ask(requests, most)
        found = []
        for head, (path, size) in zip(heads, files, strict=True):
            start = len(head)
            if text[:start] != head or len(text) < start + size:
                raise DebugfsError(f"debugfs did not show the {size} bytes of {path}", damaged=True)
            found.append(text[start : start + size])
            text = text[start + size :]
        return found

    def mtime(self, path: str) -> int | None:  # noqa: ARG002
        """See Source. Only a mounted volume's times matter."""
        return None


def _is_octal(text: bytes) -> bool:
    """Whether a mode can be read. On a crafted disk a name holds slashes, and its line looks like another one."""
    return bool(text) and not text.strip(b"01234567")


def _overflow(entries: list[Entry]) -> list[Entry]:
    """A listing that was cut off: longer than what is taken of any."""
    return (entries + [("", "o", 0)] * (MOST_ENTRIES + 1))[: MOST_ENTRIES + 1]
