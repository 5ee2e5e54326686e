"""The actions on the cloud. None detaches or deletes a volume."""

from __future__ import annotations

from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.model import Unknown
from protokube.core.volumes.model import Attachment, AttachState, CloudSnapshot, CloudVolume, Peer

KNOWN_AFTER_ATTACH = "(known after attach)"


class CloudWriter(Protocol):
    """Executes cloud actions."""

    def attach(self, volume_id: str) -> None:
        """Request an attachment; return without waiting for it.

        Raises VolumeInUseError when another instance has it; VolumeDeniedError when the cloud will not give it to
        this machine; OutcomeUnknownError when no answer came; ProviderError for the rest.
        """

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """Write one tag."""

    def announce(self) -> None:
        """Tell the other nodes this one's addresses, where the cloud doesn't know them by itself."""


class CloudAction(ActionValue, frozen=True):
    """The base of all actions on the cloud."""

    port: ClassVar[str] = "cloud"
    facts: ClassVar[str] = "cloud"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.CLOUD})


class AttachVolume(CloudAction, frozen=True, tag="attach-volume"):
    """Request the attachment of a volume. Returns at once; attaching is observed."""

    volume_id: str

    @property
    def subject(self) -> str:
        """The volume's id."""
        return self.volume_id

    def describe(self) -> str:
        """One line for people."""
        return f"attach {self.volume_id} (device known after attach)"

    def predict(self, facts: CloudSnapshot, now: float) -> CloudSnapshot:
        """The volume is this machine's."""
        assert not isinstance(facts.instance, Unknown)
        ours = (Attachment(facts.instance.id, None, AttachState.ATTACHED),)
        return _volume(facts, self.volume_id, attachments=ours, status="in-use")

    def execute(self, port: CloudWriter) -> None:
        """Request it."""
        port.attach(self.volume_id)


class TagVolume(CloudAction, frozen=True, tag="tag-volume"):
    """Write one of our own tags onto a volume."""

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

    def predict(self, facts: CloudSnapshot, now: float) -> CloudSnapshot:
        """The volume has the tag."""
        assert not isinstance(facts.volumes, Unknown)
        tags = next(one.tags for one in facts.volumes if one.id == self.volume_id)
        return _volume(facts, self.volume_id, tags={**tags, self.key: self.value})

    def execute(self, port: CloudWriter) -> None:
        """Write it."""
        port.tag(self.volume_id, self.key, self.value)


class AnnounceAddresses(CloudAction, frozen=True, tag="announce-addresses"):
    """Tell the other nodes this one's addresses, on a cloud that doesn't know them by itself."""

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

    def predict(self, facts: CloudSnapshot, now: float) -> CloudSnapshot:
        """The other nodes are told the addresses."""
        assert not isinstance(facts.peers, Unknown)
        others = tuple(peer for peer in facts.peers if peer.instance != self.instance)
        return replace(facts, peers=(*others, Peer(self.instance, self.internal, self.external)))

    def execute(self, port: CloudWriter) -> None:
        """Announce them."""
        port.announce()


def _volume(facts: CloudSnapshot, volume_id: str, **changes: object) -> CloudSnapshot:
    assert not isinstance(facts.volumes, Unknown)

    def changed(one: CloudVolume) -> CloudVolume:
        return replace(one, **changes) if one.id == volume_id else one

    return replace(facts, volumes=tuple(map(changed, facts.volumes)))
