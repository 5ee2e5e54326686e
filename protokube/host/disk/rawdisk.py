"""Reading and writing a block device past the page cache, where a read error or old data could hide."""

from __future__ import annotations

import mmap
import os

from protokube.kernel import calls

PAGE = 4096
CHUNK = 1 << 20
_BUFFER = CHUNK + 2 * PAGE  # what is asked for need not be aligned; what is read must be
_ZEROS = bytes(CHUNK)


class RawDisk:
    """A block device, opened exclusively: no other user (mount, swap, LVM, LUKS, MD, mkfs) has it.

    Opening raises OSError EBUSY when another program has. Sizes and offsets are bytes.
    """

    def __init__(self, node: str, *, write: bool = False) -> None:
        mode = os.O_RDWR if write else os.O_RDONLY
        self.node = node
        self.fd = os.open(node, mode | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._buffer = new_buffer()
        self.size = calls.device_size(self.fd)
        calls.drop_cache(self.fd)

    def close(self) -> None:
        """Let others open it."""
        os.close(self.fd)
        self._buffer.close()

    def __enter__(self) -> RawDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, offset: int, length: int, buffer: mmap.mmap | None = None) -> bytes:
        """Exactly `length` bytes, at most 1 MiB; a short read is an error like any other. A thread brings a buffer of
        its own."""
        buffer = buffer or self._buffer
        start = offset - offset % PAGE
        end = min(self.size, -(-(offset + length) // PAGE) * PAGE)
        if end - start > _BUFFER:
            raise ValueError(f"{length} bytes at {offset} are more than one read")
        view = memoryview(buffer)[: end - start]
        try:
            got = os.preadv(self.fd, [view], start)
        finally:
            view.release()
        if got != end - start:
            raise OSError(5, f"only {got} of {end - start} bytes could be read")
        return buffer[offset - start : offset - start + length]

    def write(self, offset: int, data: bytes) -> None:
        """Write at most 1 MiB of whole sectors at a multiple of 4 KiB. It is safe after the next sync()."""
        self._buffer[: len(data)] = data
        view = memoryview(self._buffer)[: len(data)]
        try:
            if os.pwritev(self.fd, [view], offset) != len(data):
                raise OSError(5, f"short write at byte {offset}")
        finally:
            view.release()

    def zero(self, offset: int, length: int) -> None:
        """Zero whole sectors. They are safe after the next sync()."""
        calls.zero_out(self.fd, offset, length)

    def sync(self) -> None:
        """Wait until the disk has kept everything that was written."""
        os.fsync(self.fd)


def new_buffer() -> mmap.mmap:
    """Memory for one read at a time."""
    return mmap.mmap(-1, _BUFFER)


def first_nonzero(data: bytes) -> int | None:
    """The index of the first byte that isn't zero."""
    if data == _ZEROS[: len(data)]:
        return None
    return len(data) - len(data.lstrip(b"\0"))
