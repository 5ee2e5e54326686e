"""`protokube etcd restore`: this node's part in a restore. It is run on every node that has a member.

The wish stands in the store, the mark on the volume. So the command may be killed at any moment: given again, it goes
on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from protokube.backups.member import Member, alone, left_by, put_mark, read_mark
from protokube.backups.restore import advance, left_behind, read_identity
from protokube.backups.tools import choose_tool
from protokube.backups.wishes import Wishes
from protokube.backups.worker import wake_daemon
from protokube.config.choice import Chosen
from protokube.core.backup.assess import spell_age
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import is_future
from protokube.core.backup.restore import RestoreWish, Stage
from protokube.core.backup.tools import BUMP
from protokube.core.disks.identity import Identity
from protokube.core.etcd.versions import image_to_run
from protokube.core.model import Rejected
from protokube.core.static_pod import image_version, manifest_image, spell_version
from protokube.etcdcommand.backups import LATEST, catalogue_of, find_backup
from protokube.etcdcommand.look import Cluster, ImpossibleError, pause

EVERY = 1.0
"""Seconds between two looks at what the daemon, etcd or other nodes do."""


class Restore:
    """The restore of one etcd cluster, by way of this node."""

    def __init__(self, chosen: Chosen, cluster: Cluster) -> None:
        self._chosen, self._cluster = chosen, cluster
        self._catalogue = catalogue_of(chosen, cluster)
        self._wishes = Wishes(chosen.store.open(), cluster.cluster_id, cluster.key)
        root, own = chosen.settings.root, cluster.own
        self._member = Member(
            own.volume.member.me,
            Path(root, own.volume.target.lstrip("/")),
            own.template.data_dir,
            Path(root, own.link.lstrip("/")),
        )

    def run(self, backup: str | None, confirm: Callable[[], None] | None, patience: float) -> None:
        """Begin a restore, join one, or go on with it. `confirm` asks; None only shows the plan.

        Raises ImpossibleError when it isn't possible, or hasn't ended within `patience` seconds.
        """
        with alone(self._member) as member:
            self._run(member, backup, confirm, patience)

    def _run(self, member: Member, backup: str | None, confirm: Callable[[], None] | None, patience: float) -> None:
        marked = read_mark(member)
        own = None if marked is None else self._wishes.read(marked)
        if own is not None and own.stage is Stage.ABANDONED and not own.left_behind(member.me):
            if confirm is None:
                earlier = left_by(member)
                ends = "would run again" if earlier is None else f"would be left behind by restore {earlier} again"
                print(f"Restore {own.number} is abandoned; member {member.me} {ends}.")
                return
            self._end_mark(member)
            print(f"Restore {own.number} is abandoned; member {member.me} runs again.")
            return
        # A member with a mark goes on with that wish, even where all have told that it is fulfilled: a new one would
        # lose what was written since.
        behind = own if own is not None and own.left_behind(member.me) else None
        under_way = self._wishes.under_way() if own is None or behind is not None else own
        if behind is not None and under_way is None and backup in (None, LATEST):
            # By mistake it would bring back a backup on all members, those included that serve.
            raise ImpossibleError(left_behind(member.me, behind))
        if under_way is not None and backup not in (None, LATEST, str(under_way.backup.name)):
            raise ImpossibleError(
                f"restore {under_way.number}, of backup {under_way.backup.name}, is under way; end it first"
            )
        identity = read_identity(member)
        wish = under_way or self._drafted(backup or LATEST, identity)
        self._check_scheme(wish)
        choose_tool(self._chosen.config.backup.tools, wish.etcd_version)
        print(self._plan(wish, begun=under_way is not None), flush=True)
        if member.me in wish.restored and marked is None:
            print(f"Member {member.me} is restored. {self._left(wish)}")
            return
        if confirm is None:
            return
        confirm()
        if under_way is None:
            wish = self._made(wish)
        put_mark(member, wish.number, behind.number if behind is not None else None)
        self._to_the_end(member, wish, patience)

    def _made(self, drafted: RestoreWish) -> RestoreWish:
        """The wish, once it is made. From then on no node deletes its backup; one may have done so right before."""
        wish = self._wishes.make(drafted)
        if self._catalogue.record(wish.backup.name) is None:
            self._wishes.move(wish, Stage.ABANDONED)
            raise ImpossibleError(f"backup {wish.backup.name} was deleted right now; nothing was changed")
        return wish

    def abandon(self, confirm: Callable[[], None] | None) -> None:
        """Abandon the restore that is under way. Members that aren't restored yet won't be."""
        with alone(self._member) as member:
            wish = self._wishes.under_way()
            if wish is None:
                raise ImpossibleError(f"no restore of etcd cluster {self._cluster.key} is under way")
            print(f"Abandon restore {wish.number}, of {wish.backup.name}: {self._abandoning(wish)}", flush=True)
            if confirm is None:
                return
            confirm()
            wish = self._wishes.move(wish, Stage.ABANDONED)
            if wish.stage is not Stage.ABANDONED:
                raise ImpossibleError(f"restore {wish.number} has come to its end meanwhile")
            if wish.left_behind(member.me):
                raise ImpossibleError(left_behind(member.me, wish))
            print(self._abandoned(wish), flush=True)
            self._end_mark(member)

    def _abandoning(self, wish: RestoreWish) -> str:
        if wish.stage is Stage.OPEN:
            return "nothing was replaced yet."
        if not wish.restored:
            return "no member runs on the backup's data yet; each takes its own back."
        missing, data = ", ".join(wish.missing), self._cluster.own.template.data_dir
        return (
            f"{', '.join(wish.restored)} go on with the backup's data. {missing} won't be restored: each stays "
            f"stopped, with its own data in {data} or {data}.before-{wish.number}, until it is replaced or restored "
            "again."
        )

    def _abandoned(self, wish: RestoreWish) -> str:
        if not wish.restored:
            return "It is abandoned. Give `protokube etcd restore` once more on the other nodes where it was begun."
        quorum = len(wish.members) // 2 + 1
        lost = " and ".join(f"protokube etcd replace --member {me}" for me in wish.missing)
        if len(wish.restored) >= quorum:
            return f"It is abandoned. Replace the members that are left behind: {lost}."
        return (
            f"It is abandoned. {', '.join(wish.restored)} alone are no quorum of {len(wish.members)}: begin another "
            "restore, on every member's node, with blank volumes in the place of lost ones."
        )

    def _end_mark(self, member: Member) -> None:
        advance(member, self._wishes, self._catalogue, self._chosen.config.backup.tools)
        self._wake_daemon()

    def _check_scheme(self, wish: RestoreWish) -> None:
        """A member that ran goes on with TLS, or without, and the wish says what all are to do."""
        own, scheme = self._cluster.own, self._cluster.scheme
        if own.manifest and not wish.urls[self._member.me].startswith(f"{scheme}:"):
            raise ImpossibleError(
                f"restore {wish.number} names {wish.urls[self._member.me]} for member {self._member.me}, which "
                f"speaks {scheme} (expected the same): abandon it, and begin it on this node"
            )

    def _drafted(self, backup: str, identity: Identity) -> RestoreWish:
        """What would be wished."""
        own, cluster = self._cluster.own, self._cluster
        record = find_backup(self._catalogue, backup)
        runs = image_version(manifest_image(own.manifest) or self._image(identity, record))
        version = spell_version(runs) or record.etcd_version
        taken_of = image_version(f"etcd:{record.etcd_version}")
        if runs is not None and taken_of is not None and runs[:2] < taken_of[:2]:
            raise ImpossibleError(
                f"backup {record.name} is of etcd {record.etcd_version}, which etcd {version} of this node can't read"
            )
        members = {me: own.template.member_name(me) for me in own.volume.member.members}
        urls = {me: cluster.peer_url(me) for me in members}
        return RestoreWish(0, record, members, urls, version)

    def _image(self, identity: Identity, record: BackupRecord) -> str:
        """The image that the daemon will run on the backup's data, where no manifest says it."""
        known = replace(identity, started=True, etcd_version=identity.etcd_version or record.etcd_version)
        image = image_to_run(self._chosen.config.etcd, self._cluster.own, known)
        if isinstance(image, Rejected):
            raise ImpossibleError(f"what is to run on the backup's data isn't known: {image.evidence}")
        return image

    def _plan(self, wish: RestoreWish, *, begun: bool) -> str:
        backup, data = wish.backup, self._cluster.own.template.data_dir
        names = ", ".join(wish.members)
        now = time.time()
        age = spell_age(max(0.0, now - backup.at))
        number = str(wish.number) if begun else "N"
        lines = [
            f"{f'Go on with restore {number}' if begun else 'Restore'}: etcd cluster {self._cluster.key}, of {names}",
            f"  from backup {backup.name}: {age} old, {backup.keys} keys, revision {backup.revision}, "
            f"etcd {backup.etcd_version}",
            f"  1. member {self._member.me} of this node stops",
            f"  2. all of {names} have stopped: the same command is given on each of their nodes",
            f"  3. {data} is made new of the backup; the old one is kept as {data}.before-{number}",
            "  4. the member starts again; all restored members form a new cluster",
            f"What was written in the last {age} is lost. The revision rises by {BUMP}, and all watches end.",
        ]
        if is_future(backup.name, now):
            lines.append("This backup is from the future: a clock was wrong, and nobody knows how old it is.")
        if not backup.proven:
            lines.append(f"This backup is not proven: {backup.proof}.")
        return "\n".join(lines)

    def _to_the_end(self, member: Member, wish: RestoreWish, patience: float) -> None:
        told, waited = "", 0.0
        self._wake_daemon()
        tools = self._chosen.config.backup.tools
        while waiting := advance(member, self._wishes, self._catalogue, tools):
            if waiting != told:
                print(f"waiting for {waiting}", flush=True)
                told = waiting
            if waited >= patience:
                raise ImpossibleError(f"not yet, after {patience:.0f} s: {waiting}; run the command again")
            pause(EVERY)
            waited += EVERY
        self._wake_daemon()
        wish = self._wishes.read(wish.number)
        if member.me not in wish.restored:
            raise ImpossibleError(f"restore {wish.number} was abandoned on another node; the old data are in place")
        print(f"Member {member.me} is restored. {self._left(wish)}")

    def _left(self, wish: RestoreWish) -> str:
        if not wish.missing:
            return "So are all others."
        stopped = self._wishes.stopped(wish)
        told = [f"{me} ({'stopped' if me in stopped else 'not stopped'})" for me in wish.missing]
        return f"Not yet: {', '.join(told)}."

    def _wake_daemon(self) -> None:
        """Let the daemon look now, and not with its next reconcile by the clock."""
        wake_daemon(self._chosen.settings.root, self._cluster.key)
