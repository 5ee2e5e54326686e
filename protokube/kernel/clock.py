"""Whether the kernel's clock is synchronised, as adjtimex(2) tells it."""

from __future__ import annotations

import os

_TIMEX_SIZE = 208
_MAXERROR = slice(24, 32)
"""Where `maxerror` stands in struct timex on 64-bit machines: a long in µs, after `modes` and two longs."""
_NO_LIMIT = 16_000_000
"""NTP_PHASE_LIMIT of the kernel: so large is the error that nothing keeps small."""


def clock_in_sync() -> bool:
    """Whether a time service has synchronised the clock, and not too long ago.

    The rule is systemd's (`ntp_synced` in time-util.c), which doesn't look at STA_UNSYNC: time services also set that
    flag to keep the kernel from writing the hardware's clock. Raises OSError: EPERM where a system call filter
    forbids the question.
    """
    import ctypes  # only who issues a certificate asks

    timex = ctypes.create_string_buffer(_TIMEX_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int.from_bytes(timex.raw[_MAXERROR], "little", signed=True) < _NO_LIMIT
