"""The errors that the program knows. Anything else is a bug and ends it; systemd starts it again."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from protokube.core.model import Fault


class ProtokubeError(Exception):
    """The root of the tree."""


class ConfigError(ProtokubeError):
    """The configuration, inventory or a template is wrong. Carries every reason, not just the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(ProtokubeError):
    """The command line can't be understood."""


class PermissionNeededError(ProtokubeError):
    """The program lacks a right that it needs, root above all."""


class ProviderError(ProtokubeError):
    """A call to the world failed. The message names the call, the answer, and the remedy.

    Observe turns it into Unknown. Apply reports it, and leaves the action's subject alone until the next reconcile.
    Elsewhere it is caught only where a reconcile goes on as well without the failed part.
    """


class VolumeInUseError(ProviderError):
    """The volume has a holder: another node that won the race, or this one, by an earlier request."""


class VolumeDeniedError(ProviderError):
    """The cloud will not attach this volume to this machine, while it may well attach another one."""


class OutcomeUnknownError(ProviderError):
    """The call was sent, and no usable answer came: it may have been carried out."""


class NotListeningError(ProviderError):
    """Nothing listens at the port that was to be asked, on a machine that answers."""


class EtcdRefusedError(ProviderError):
    """etcd answered a request with an error. `reason` is its own text, `code` that of gRPC."""

    def __init__(self, reason: str, code: int, message: str) -> None:
        self.reason, self.code = reason, code
        super().__init__(message)


class DeviceConflictError(ProviderError):
    """The cloud says that a device name is in use already. `device` is that name; another one may be free."""

    def __init__(self, device: str, message: str) -> None:
        self.device = device
        super().__init__(message)


class StoreError(ProviderError):
    """A store did not answer, or gave no usable answer: nothing is known about its objects."""

    rule = "store/unreadable"


class DamagedRecordError(StoreError):
    """An object was read, and isn't what its name says."""


class StoreConflictError(StoreError):
    """A store refused a write again and again, because other writes of the same object were under way."""

    rule = "store/conflict"


class StoreKeyError(StoreError):
    """An object can't be opened with the key at hand, or without one."""

    rule = "store/key"


class TaggingForbiddenError(ProviderError):
    """The cloud lets this machine write no tags, and will not until an operator changes its permissions."""


_ADVICE = {
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root, and see whether the file is immutable (lsattr)",
    errno.ENOSPC: "free space on that filesystem",
    errno.EDQUOT: "free space in that quota",
    errno.EROFS: "the filesystem is read-only: see the kernel's log for why, then mount it writable",
    errno.EIO: "the disk answers with errors: see the kernel's log",
    errno.ENOTDIR: "a file stands where a directory should be: move it away",
    errno.EISDIR: "a directory stands where a file should be: move it away",
}


@contextmanager
def explain(what: str, advice: Mapping[int, str] | None = None) -> Iterator[None]:
    """Turn an OSError into a ProviderError that names the attempt and the remedy.

    `advice`, by error number, replaces the usual remedy there.
    """
    try:
        yield
    except OSError as error:
        known = (_ADVICE | dict(advice or {})).get(error.errno or 0)
        raise ProviderError(f"{what}: {error.strerror}" + (f"; {known}" if known else "")) from error
