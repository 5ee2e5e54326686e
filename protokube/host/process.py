"""Starting other programs, from the light child processes too: posix_spawn alone, nothing heavy is imported.

Tools are called by their absolute path with `LC_ALL=C`, so that neither PATH nor a language changes what they say.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOOL_DIRS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
_PACKAGES = {
    "blkid": "util-linux",
    "wipefs": "util-linux",
    "debugfs": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "e2image": "e2fsprogs",
}
_ENDING = (1, 2, 15)  # SIGHUP, SIGINT, SIGTERM; the module signal takes 4 ms to import
_ENVIRONMENT = {"LC_ALL": "C", "PATH": ":".join(_TOOL_DIRS)}


class ToolMissingError(Exception):
    """A program that we need isn't installed; the message names the Debian package that brings it."""


def tool(name: str) -> str:
    """The absolute path of a tool."""
    for directory in _TOOL_DIRS:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise ToolMissingError(f"{name} is not installed: install the package {_PACKAGES.get(name, name)}")


def missing_tools() -> dict[str, str]:
    """The tools that aren't installed, with the Debian package that brings each."""

    def missing(name: str) -> bool:
        return not any(os.access(f"{directory}/{name}", os.X_OK) for directory in _TOOL_DIRS)

    return {name: package for name, package in _PACKAGES.items() if missing(name)}


def spawn(
    argv: Sequence[str],
    fds: Sequence[tuple[int, int]] = (),
    *,
    session: bool = False,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a program and return its pid; the caller waits for it.

    Descriptors 0, 1 and 2 are /dev/null unless `fds`, pairs of (ours, the child's), say otherwise. `session` puts it
    into a session of its own and blocks the signals that end us, for what it starts as well, so that it outlives us.
    `environment` is added to the little that every tool gets.
    """
    known = {**_ENVIRONMENT, **(environment or {})}
    given = {theirs for _, theirs in fds}
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2) if number not in given
    ]
    actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in fds]
    if session:
        return os.posix_spawn(argv[0], list(argv), known, file_actions=actions, setsid=True, setsigmask=_ENDING)
    return os.posix_spawn(argv[0], list(argv), known, file_actions=actions)


class Running:
    """A program whose output and errors we collect. It inherits `keep` as its descriptor 3."""

    __slots__ = ("_errors", "_fd", "_pid")

    def __init__(
        self, argv: Sequence[str], keep: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._fd, writing = os.pipe()
        self._errors = os.memfd_create("errors")  # unlike a second pipe it can't fill up and block the program
        try:
            kept = [] if keep is None else [(keep, 3)]
            self._pid = spawn(argv, [(writing, 1), (self._errors, 2), *kept], environment=environment)
        finally:
            os.close(writing)

    def result(self, most: int = 1 << 20) -> tuple[int, bytes, bytes]:
        """Wait for its end: exit code (negative: the signal), the first `most` bytes of its output, its errors.

        A program that writes more is cut off by SIGPIPE.
        """
        text = _drain(self._fd, most)
        code = _exit_code(self._pid)
        errors = os.pread(self._errors, 1 << 16, 0)
        os.close(self._errors)
        return code, text, errors


def _drain(fd: int, most: int) -> bytes:
    text = b""
    try:
        while len(text) < most and (part := os.read(fd, most - len(text))):
            text += part
    finally:
        os.close(fd)
    return text


def _exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_logged(argv: Sequence[str], log: str, keep: int) -> tuple[int, str]:
    """Run a program whose output goes to the file `log`, and return its exit code and the end of that output.

    The program inherits the descriptor `keep` (a locked one: the lock lasts as long as the program does, even when
    we are killed). A file, since a pipe would break with us and take the program along.
    """
    fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        code = _exit_code(spawn(argv, [(fd, 1), (fd, 2), (keep, 3)]))
        size = os.fstat(fd).st_size
        return code, os.pread(fd, 4096, max(0, size - 4096)).decode(errors="replace").strip()
    finally:
        os.close(fd)


def started_at(pid: int) -> str | None:
    """When a process was started (clock ticks since boot), which tells it from a later one with its pid.

    None when there is no such process or it has ended and only waits to be reaped.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
