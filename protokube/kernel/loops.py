"""Ask the kernel which files stand behind loop devices, for those who ask from a process of its own: an answer may
never come."""

from __future__ import annotations

import _thread
import os

from protokube.kernel import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def tell_files(devices: Sequence[str], fd: int) -> None:
    """Write a line to `fd` for each device that answers, at once: its place in the list, and its file's st_dev and
    st_ino where it has a file. Return when all have answered.

    A device is asked in a thread of its own, and one that hangs keeps the process, so that the process tells whether
    it is still silent.
    """
    open_ended = []
    # _thread, since loading threading takes half as long as the start of this process.
    for number, device in enumerate(devices):
        lock = _thread.allocate_lock()
        lock.acquire()
        open_ended.append(lock)
        _thread.start_new_thread(_tell_one, (number, device, fd, lock))
    for lock in open_ended:
        lock.acquire()


def _tell_one(number: int, device: str, fd: int, lock: _thread.LockType) -> None:
    try:
        words = (number, *(calls.loop_backing(device) or ()))
        os.write(fd, (" ".join(map(str, words)) + "\n").encode())  # far less than PIPE_BUF: never half a line
    except BrokenPipeError:
        pass  # whoever asked has been killed
    finally:
        lock.release()
