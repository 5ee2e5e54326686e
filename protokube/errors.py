"""The errors that the program knows. Anything else is a bug and ends it; systemd starts it again."""

from __future__ import annotations

from collections.abc import Sequence

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


class PermissionNeeded(ProtokubeError):  # noqa: N818 - it names what is needed
    """The program lacks a right that it needs, root above all."""


class ProviderError(ProtokubeError):
    """A call to the world failed. Its message names what was asked, the answer, and what an operator can do.

    Caught by observe, which turns it into Unknown, and by the apply loop, which reports it and leaves the
    action's subject alone for the rest of the round.
    """


class VolumeInUse(ProviderError):  # noqa: N818 - the field's own word
    """Somebody has the volume: another node that won the race, or this one, by an earlier request."""


class VolumeRefused(ProviderError):  # noqa: N818 - it names what is the case
    """The cloud will not attach this volume to this machine, while it may well attach another one."""


class OutcomeUnknown(ProviderError):  # noqa: N818 - it names what is the case
    """The call was sent and no usable answer came, so that it may have been carried out all the same."""


class DeviceNameTaken(ProviderError):  # noqa: N818 - it names what is the case
    """The cloud says that a device name is in use already. `device` is that name; another one may be free."""

    def __init__(self, device: str, message: str) -> None:
        self.device = device
        super().__init__(message)


class TaggingForbidden(ProviderError):  # noqa: N818 - it names what is the case
    """The cloud lets this machine write no tags, and will not until an operator changes its permissions."""
