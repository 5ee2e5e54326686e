"""Since when something has been seen: what an answer that lags, or a single look, can't tell.

Times are uptimes, in seconds. Any of it may be lost at any moment; it costs delay, never an effect.
"""

from __future__ import annotations

from msgspec import Struct, field

from protokube.core.etcd.model import PeerAnswers
from protokube.core.model import Unknown
from protokube.core.observed import Observed

HIDDEN_FOR = 30.0
"""Seconds for which a volume counts as ours although the cloud doesn't show it: its answers lag behind."""

CONFLICT_FOR = 600.0
"""Seconds after which a device name that was in use is asked for again."""


class Sightings(Struct):
    """What has been seen, and when.

    `ours`: volume → when it was last asked for, or shown as ours. `conflicts`: device name → when the cloud refused
    it as being in use. `names`: device name → since when it has been in use by nothing that is shown. `answers`: etcd
    cluster → member → its answer, and since when it has been that.
    """

    ours: dict[str, float] = field(default_factory=dict)
    conflicts: dict[str, float] = field(default_factory=dict)
    names: dict[str, float] = field(default_factory=dict)
    answers: dict[str, dict[str, tuple[object, float]]] = field(default_factory=dict)

    def asked(self, volume_id: str, now: float) -> None:
        """The cloud was asked for a volume, and may have given it."""
        self.ours[volume_id] = now

    def refused(self, volume_id: str) -> None:
        """The cloud will not give a volume."""
        self.ours.pop(volume_id, None)

    def conflict(self, device: str, now: float) -> None:
        """The cloud refused a device name as being in use."""
        self.conflicts[device] = now

    def hidden(self, observed: Observed) -> frozenset[str]:
        """What was asked for, or shown as ours, within `HIDDEN_FOR`, and isn't shown as anybody's."""
        if isinstance(observed.instance, Unknown) or isinstance(observed.volumes, Unknown):
            return frozenset()
        shown = {volume.id for volume in observed.volumes if volume.attachments}
        for volume in observed.volumes:
            if volume.attachment_to(observed.instance.id):
                self.ours[volume.id] = observed.uptime
            elif volume.attachments:
                self.ours.pop(volume.id, None)
        self.ours = {one: since for one, since in self.ours.items() if observed.uptime - since < HIDDEN_FOR}
        told = observed.instance.attached & {volume.id for volume in observed.volumes}
        return frozenset((self.ours.keys() | told) - shown)

    def taken_devices(self, observed: Observed) -> dict[str, float]:
        """For how many seconds device names have been known to be in use by nothing that the cloud shows."""
        now = observed.uptime
        self.conflicts = {name: since for name, since in self.conflicts.items() if now - since < CONFLICT_FOR}
        if not isinstance(observed.instance, Unknown) and not isinstance(observed.kernel_devices, Unknown):
            names = observed.kernel_devices.intersection(observed.instance.device_names)
            names = (names | observed.instance.doubtful_devices) - observed.instance.used_devices
            self.names = {name: self.names.get(name, now) for name in names}
        return {name: now - since for name, since in (self.names | self.conflicts).items()}

    def answers_for(self, observed: Observed) -> dict[str, float]:
        """For how many seconds all members of an etcd cluster that answer have given the answers that they give."""
        return {cluster: observed.uptime - self._since(cluster, observed) for cluster in observed.members}

    def _since(self, cluster: str, observed: Observed) -> float:
        answers = observed.members[cluster]
        lists = answers.lists if isinstance(answers, PeerAnswers) else {}
        known = self.answers.setdefault(cluster, {})  # of a member that is silent too: silence is no change
        for me, answer in lists.items():
            if me not in known or known[me][0] != answer:
                known[me] = answer, observed.uptime
        return max((known[me][1] for me in lists), default=observed.uptime)
