"""A machine whose clock is wrong, for every program that runs on it, while all others have the right time.

    with wrong_clock(node, days=400):
        node.start()
        …

There is no namespace for the time of day. But every program asks the kernel through the code that the kernel maps
into each process (the vDSO), Go's programs and Python alike. In each process of the node these functions are replaced
by ones that make the system call and add the seconds. A new process has the right time for a moment, as after a clock
that was set; the times of files stay the kernel's.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.systemd_node import SystemdNode

_EVERY = 0.1
"""Seconds between two looks for new processes."""
_ELF = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_VDSO, _PAGES = 33, 8192  # AT_SYSINFO_EHDR
_DYNAMIC, _HASH, _STRINGS, _SYMBOLS = 2, 4, 5, 6


def _functions(seconds: int) -> dict[str, bytes]:
    """The machine code (x86-64) of the three functions."""
    added = struct.pack("<i", seconds)
    return {
        # eax = clock_gettime(edi, rsi); the seconds are added to the clocks 0 and 5, of the time of day
        "__vdso_clock_gettime": b"\xb8\xe4\0\0\0\x0f\x05\x85\xff\x74\x05\x83\xff\x05\x75\x07\x48\x81\x06"
        + added
        + b"\xc3",
        # eax = gettimeofday(rdi, rsi)
        "__vdso_gettimeofday": b"\xb8\x60\0\0\0\x0f\x05\x48\x85\xff\x74\x07\x48\x81\x07" + added + b"\xc3",
        # rax = time(NULL); *rdi = rax
        "__vdso_time": b"\xb8\xc9\0\0\0\x48\x89\xfa\x31\xff\x0f\x05\x48\x05"
        + added
        + b"\x48\x85\xd2\x74\x03\x48\x89\x02\xc3",
    }


def _symbols(image: bytes) -> dict[str, tuple[int, int]]:
    """Where the functions of a vDSO begin, and how long they are."""
    header = _ELF.unpack_from(image)
    programs = [_PROGRAM.unpack_from(image, header[5] + at * header[9]) for at in range(header[10])]
    (dynamic,) = (one for one in programs if one[0] == _DYNAMIC)
    entries = dict(struct.iter_unpack("<QQ", image[dynamic[2] : dynamic[2] + dynamic[5]]))
    (_, count) = struct.unpack_from("<II", image, entries[_HASH])
    found = {}
    for at in range(count):
        name, _info, _other, _section, value, size = _SYMBOL.unpack_from(image, entries[_SYMBOLS] + at * _SYMBOL.size)
        start = entries[_STRINGS] + name
        found[image[start : image.index(b"\0", start)].decode()] = (value, size)
    return found


def _adjust(process: Path, auxiliary: bytes, functions: dict[str, bytes]) -> None:
    """Replace the functions in a process."""
    begin = dict(struct.iter_unpack("<QQ", auxiliary))[_VDSO]
    with (process / "mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        symbols = _symbols(memory.read(_PAGES))
        for name, code in functions.items():
            where, size = symbols[name]
            assert len(code) <= size
            memory.seek(begin + where)
            memory.write(code)


def _watch(node: SystemdNode, functions: dict[str, bytes], stop: threading.Event) -> None:
    """Adjust each process of the node, whenever the node runs, and each program that one becomes: a program's
    auxiliary vector is like no other's."""
    done: dict[str, bytes] = {}
    while not stop.is_set():
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            # Processes end while they are looked at.
            with suppress(OSError):
                if not node.cgroup or f"/{node.cgroup}" not in (process / "cgroup").read_text():
                    continue
                auxiliary = (process / "auxv").read_bytes()
                if auxiliary and done.get(process.name) != auxiliary:
                    _adjust(process, auxiliary, functions)
                found[process.name] = auxiliary
        done = found
        stop.wait(_EVERY)


@contextmanager
def wrong_clock(node: SystemdNode, *, days: int) -> Iterator[None]:
    """Let every process of the node have a clock that is so many days ahead; behind, with a negative number.

    What still runs at the end keeps its time: switch the node off.
    """
    stop = threading.Event()
    watch = threading.Thread(target=_watch, args=(node, _functions(days * 86400), stop), name="wrong-clock")
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join(60)
