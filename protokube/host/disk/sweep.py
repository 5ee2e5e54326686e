"""Reading many places of a disk at once: a disk of a cloud takes half a millisecond for each, whatever the length."""

from __future__ import annotations

import _thread  # `threading` would be a tenth of a probe's time

from protokube.host.disk.rawdisk import new_buffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from protokube.host.disk.places import Place
    from protokube.host.disk.rawdisk import RawDisk

    Judge = Callable[[Place, bytes], int | None]
    """The index of the first byte that is wrong in what was read at a place."""

_THREADS = 8


class Hit:
    """The first place where something is wrong: `offset` and `value` of the byte, or the `error` of the read."""

    __slots__ = ("error", "offset", "place", "value")

    def __init__(self, place: Place, offset: int, value: int, error: OSError | None = None) -> None:
        self.place = place
        self.offset = offset
        self.value = value
        self.error = error


class _Sweep:
    def __init__(self, raw: RawDisk, places: Iterable[Place], judge: Judge) -> None:
        self._raw = raw
        self._judge = judge
        self._left: Iterator[tuple[int, Place]] = enumerate(places)
        self._lock = _thread.allocate_lock()
        self.first: tuple[int, Hit] | None = None
        self.ended = 0

    def _next(self) -> tuple[int, Place] | None:
        """The next place to read; None when all are read or one before it is wrong."""
        with self._lock:
            return None if self.first else next(self._left, None)

    def run(self) -> None:
        """Read until nothing is left. The first place in order wins, whichever thread comes first."""
        buffer = new_buffer()
        while taken := self._next():
            index, place = taken
            hit = self._look(place, buffer)
            if hit is not None:
                with self._lock:
                    if self.first is None or index < self.first[0]:
                        self.first = index, hit
        with self._lock:
            self.ended += 1

    def _look(self, place: Place, buffer: object) -> Hit | None:
        try:
            data = self._raw.read(place.offset, place.length, buffer)  # type: ignore[arg-type]
        except OSError as error:
            return Hit(place, place.offset, 0, error)
        wrong = self._judge(place, data)
        return None if wrong is None else Hit(place, place.offset + wrong, data[wrong])


def sweep(raw: RawDisk, places: Iterable[Place], judge: Judge) -> Hit | None:
    """Read all places; the first, in their order, where something is wrong."""
    one = _Sweep(raw, places, judge)
    ends = []

    def thread(end: _thread.LockType) -> None:
        try:
            one.run()
        finally:
            end.release()

    for _ in range(_THREADS):
        end = _thread.allocate_lock()
        end.acquire()
        ends.append(end)
        _thread.start_new_thread(thread, (end,))
    for end in ends:
        end.acquire()
    if one.ended != _THREADS:
        raise RuntimeError("a thread that read the disk failed; its error is in the log")
    return one.first[1] if one.first else None
