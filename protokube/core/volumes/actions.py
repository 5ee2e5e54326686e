"""What is asked of the cloud."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from protokube.core.model import Facet

KNOWN_AFTER_ATTACH = "(known after attach)"


class AttachVolume(Struct, frozen=True):
    """Ask the cloud to attach a volume under a device name. Returns at once; attaching is observed."""

    kind: ClassVar[str] = "attach-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.VOLUMES, Facet.INSTANCE, Facet.PEERS})
    volume_id: str
    device: str | None

    @property
    def subject(self) -> str:
        """The volume's id."""
        return self.volume_id

    def describe(self) -> str:
        """One line for people."""
        name = f" as {self.device}" if self.device else ""
        return f"attach {self.volume_id}{name} (device known after attach)"


class TagVolume(Struct, frozen=True):
    """Write one of our own tags onto a volume."""

    kind: ClassVar[str] = "tag-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.VOLUMES})
    volume_id: str
    key: str
    value: str

    @property
    def subject(self) -> str:
        """The volume's id and the tag: two tags of one volume may be written side by side."""
        return f"{self.volume_id}:{self.key}"

    def describe(self) -> str:
        """One line for people."""
        return f"tag {self.volume_id} {self.key}={self.value}"


class AnnounceAddresses(Struct, frozen=True):
    """Let the other nodes know where this one is, on a cloud that doesn't know it by itself."""

    kind: ClassVar[str] = "announce-addresses"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.PEERS})
    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The instance's id."""
        return self.instance

    def describe(self) -> str:
        """One line for people."""
        return f"announce that {self.instance} is at {', '.join((*self.internal, *self.external)) or 'no address'}"


CloudAction = AttachVolume | TagVolume | AnnounceAddresses
