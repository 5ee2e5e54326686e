"""Whether the kernel's clock is synchronised, as adjtimex(2) tells it."""

from __future__ import annotations

import os

_STA_UNSYNC = 0x0040
_TIMEX_SIZE = 208
_STATUS = 40
"""Where `status` stands in struct timex on 64-bit machines: an int, after `modes` and four longs."""


def clock_in_sync() -> bool:
    """Whether a time service has synchronised the clock, and not too long ago."""
    import ctypes  # only who issues a certificate asks

    timex = ctypes.create_string_buffer(_TIMEX_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    status = int.from_bytes(timex.raw[_STATUS : _STATUS + 4], "little", signed=True)
    return not status & _STA_UNSYNC
