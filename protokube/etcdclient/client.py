"""etcd's client port, by its JSON gateway: `POST /v3/…`. No library, no etcdctl.

Numbers of 64 bits come as text, and a field that is zero, false or empty doesn't come at all. The gateway dials its
own port with the server's certificate, which therefore needs clientAuth as well (etcd-io/etcd 9785). `raftIndex` is
the committed index, `raftAppliedIndex` the applied one (etcd's api/etcdserverpb/rpc.proto).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Annotated, BinaryIO, TypeVar

from msgspec import Meta, MsgspecError, Struct, field
from msgspec.json import decode

from protokube.core.etcd.running import Alarm, ClusterMember, Keys, MemberStatus, Snapshot
from protokube.core.model import MIB
from protokube.errors import EtcdRefusedError, explain
from protokube.etcdclient.transport import Request, Server, answer, read

log = logging.getLogger("protokube")

LIMIT = 5.0
"""Seconds for an ordinary call. etcd gives up a request without quorum after 7: 5 and two election timeouts."""
DEFRAGMENT_LIMIT = 600.0
SNAPSHOT_LIMIT = 1800.0
IDLE_LIMIT = 60.0
"""Seconds between two bytes of a snapshot."""

_PAGE = 512
"""The size of a snapshot without its hash is a multiple of it (bbolt's smallest page)."""
_HASH = 32

_QUOTA = re.compile(rb"^etcd_server_quota_backend_bytes ([0-9.]{1,20}(?:e\+[0-9]{1,2})?)$", re.MULTILINE)

_Number = Annotated[str, Meta(pattern=r"^[0-9]{1,20}$")]

T = TypeVar("T")


class _Header(Struct):
    cluster_id: _Number = "0"
    member_id: _Number = "0"
    revision: _Number = "0"


class _Member(Struct):
    id: _Number = field(name="ID")
    peers: Annotated[tuple[str, ...], Meta(min_length=1)] = field(name="peerURLs")
    name: str = ""
    clients: tuple[str, ...] = field(name="clientURLs", default=())
    learner: bool = field(name="isLearner", default=False)

    def value(self) -> ClusterMember:
        return ClusterMember(int(self.id), self.name, self.peers, self.clients, self.learner)


class _Members(Struct):
    members: Annotated[list[_Member], Meta(min_length=1)]


class _Added(Struct):
    member: _Member


class _Status(Struct):
    header: _Header
    version: str
    size: _Number = field(name="dbSize", default="0")
    in_use: _Number = field(name="dbSizeInUse", default="0")
    quota: _Number = field(name="dbSizeQuota", default="0")
    leader: _Number = "0"
    term: _Number = field(name="raftTerm", default="0")
    committed: _Number = field(name="raftIndex", default="0")
    applied: _Number = field(name="raftAppliedIndex", default="0")
    learner: bool = field(name="isLearner", default=False)
    errors: tuple[str, ...] = ()


class _Alarm(Struct):
    member: _Number = field(name="memberID")
    kind: str = field(name="alarm")


class _Alarms(Struct):
    alarms: list[_Alarm] = []


class _Count(Struct):
    header: _Header
    count: _Number = "0"


class _Pair(Struct):
    key: bytes = b""
    value: bytes = b""


class _Range(Struct):
    pairs: tuple[_Pair, ...] = field(name="kvs", default=())


class _Refusal(Struct):
    message: str
    code: int = 0


class _Blob(Struct):
    blob: str = ""


class _Streamed(Struct):
    result: _Blob | None = None
    error: _Refusal | None = None


class _Lease(Struct):
    id: _Number = field(name="ID")


class _Done(Struct):
    succeeded: bool = False


class _Nothing(Struct):
    pass


class EtcdClient:
    """One member of an etcd cluster, asked at its client port. `limit` is in seconds, for an ordinary call.

    Every call raises ProviderError when no usable answer comes, OutcomeUnknownError when it may have changed
    something nevertheless, and EtcdRefusedError when etcd answers with an error.
    """

    def __init__(self, server: Server, limit: float = LIMIT) -> None:
        self._server, self._limit = server, limit

    def status(self) -> MemberStatus:
        """The member's own status. It answers without quorum."""
        told = self._post("maintenance/status", {}, _Status)
        return MemberStatus(
            cluster_id=int(told.header.cluster_id),
            member_id=int(told.header.member_id),
            version=told.version,
            leader=int(told.leader),
            term=int(told.term),
            revision=int(told.header.revision),
            applied=int(told.applied),
            committed=int(told.committed),
            size=int(told.size),
            in_use=int(told.in_use),
            quota=int(told.quota) or None,
            learner=told.learner,
            errors=told.errors,
        )

    def quota(self) -> int | None:
        """The quota of the member's database in bytes, as its metrics tell: before 3.6 its status doesn't."""
        with answer(self._server, Request("/metrics", limit=self._limit)) as response:
            found = _QUOTA.search(read(response, MIB)) if response.status == 200 else None
        return int(float(found[1])) if found else None

    def members(self) -> tuple[ClusterMember, ...]:
        """The member list as a quorum knows it.

        Before 3.5 the list is the member's own and may be old. A read with quorum makes the member catch up first.
        """
        self.keys()
        listed = self._post("cluster/member/list", {"linearizable": True}, _Members)
        return tuple(one.value() for one in listed.members)

    def keys(self) -> Keys:
        """The number of all keys, and the revision, read with quorum."""
        counted = self._post("kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True}, _Count)
        return Keys(int(counted.count), int(counted.header.revision))

    def values(self, prefix: str) -> dict[str, str]:
        """The values of the keys below a prefix, read with quorum; by what follows the prefix in their keys."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self._post("kv/range", {"key": _encoded(prefix), "range_end": _encoded(end)}, _Range).pairs
        texts = {one.key.decode(errors="replace"): one.value.decode(errors="replace") for one in found}
        return {key.removeprefix(prefix): value for key, value in texts.items()}

    def put(self, key: str, value: str) -> None:
        """Write a key."""
        self._post("kv/put", {"key": _encoded(key), "value": _encoded(value)}, _Nothing, changes=True)

    def replace(self, key: str, old: str, new: str, life: int) -> bool:
        """Write a key that etcd forgets after `life` seconds, if its value is `old`; empty: if there is none. Says
        whether it did."""
        granted = self._post("lease/grant", {"TTL": str(life)}, _Lease, changes=True)
        put = {"requestPut": {"key": _encoded(key), "value": _encoded(new), "lease": granted.id}}
        return self._if(key, old, put)

    def delete(self, key: str, old: str) -> bool:
        """Delete a key, if its value is `old`. Says whether it did."""
        return self._if(key, old, {"requestDeleteRange": {"key": _encoded(key)}})

    def _if(self, key: str, old: str, then: Mapping[str, object]) -> bool:
        compare: dict[str, str] = {"key": _encoded(key), "result": "EQUAL"}
        compare |= {"target": "VALUE", "value": _encoded(old)} if old else {"target": "CREATE", "createRevision": "0"}
        wanted = {"compare": [compare], "success": [then]}
        return self._post("kv/txn", wanted, _Done, changes=True).succeeded

    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms of the cluster, as this member knows them. An alarm list has no effect, and needs no quorum."""
        listed = self._post("maintenance/alarm", {"action": "GET"}, _Alarms)
        return tuple(Alarm(int(one.member), one.kind) for one in listed.alarms)

    def disarm(self, alarm: Alarm) -> None:
        """Take back an alarm, whose cause must be gone."""
        wanted = {"action": "DEACTIVATE", "memberID": str(alarm.member_id), "alarm": alarm.kind}
        self._post("maintenance/alarm", wanted, _Alarms, changes=True)

    def add_learner(self, peer_url: str) -> ClusterMember:
        """Add a member that has no vote yet. Returns it, with its new id."""
        wanted = {"peerURLs": [peer_url], "isLearner": True}
        return self._post("cluster/member/add", wanted, _Added, changes=True).member.value()

    def remove(self, member_id: int) -> None:
        """Remove a member for good: a process with its data ends, and can't come back."""
        self._post("cluster/member/remove", {"ID": str(member_id)}, _Nothing, changes=True)

    def promote(self, member_id: int) -> None:
        """Give a learner its vote. etcd refuses until it has caught up with the leader."""
        self._post("cluster/member/promote", {"ID": str(member_id)}, _Nothing, changes=True)

    def update(self, member_id: int, peer_url: str) -> None:
        """Change a member's peer URL. Never do that to a learner: it would be promoted before 3.5.31 and 3.6.12
        (etcd-io/etcd 21694)."""
        wanted = {"ID": str(member_id), "peerURLs": [peer_url]}
        self._post("cluster/member/update", wanted, _Nothing, changes=True)

    def transfer_leadership(self, member_id: int) -> None:
        """Let the leader, which this member must be, hand its office to another voter."""
        wanted = {"targetID": str(member_id)}
        self._post("maintenance/transfer-leadership", wanted, _Nothing, changes=True)

    def compact(self, revision: int) -> None:
        """Drop what was overwritten before a revision."""
        wanted = {"revision": str(revision), "physical": True}
        self._post("kv/compaction", wanted, _Nothing, changes=True)

    def defragment(self, limit: float = DEFRAGMENT_LIMIT) -> None:
        """Give the free pages of this member's database back to its disk. It serves nothing meanwhile."""
        self._post("maintenance/defragment", {}, _Nothing, changes=True, limit=limit)

    def snapshot(self, out: BinaryIO, limit: float = SNAPSHOT_LIMIT) -> Snapshot:
        """Write a snapshot to `out`, byte for byte as `etcdctl snapshot save` does, and check its hash.

        Raises ProviderError, with part of it written, when it breaks off, or isn't what its hash says.
        """
        request = Request("/v3/maintenance/snapshot", b"{}", limit=limit, idle=IDLE_LIMIT)
        whole, inner, tail, size = hashlib.sha256(), hashlib.sha256(), b"", 0
        with answer(self._server, request) as response:
            if response.status != 200:
                raise self._refused(read(response, MIB), response.status)
            while line := response.readline(MIB + 1):
                if not line.strip():
                    continue
                blob = _blob(line)
                with explain("write the snapshot"):
                    out.write(blob)
                whole.update(blob)
                size += len(blob)
                held = tail + blob
                inner.update(held[:-_HASH])
                tail = held[-_HASH:]
            if size % _PAGE != _HASH or inner.digest() != tail:
                raise ValueError(f"a snapshot of {size} bytes that does not end with its own hash")
        log.debug("etcd %s: snapshot of %d bytes", self._server.url, size)
        return Snapshot(size, whole.hexdigest())

    def _post(
        self,
        path: str,
        body: Mapping[str, object],
        kind: type[T],
        *,
        changes: bool = False,
        limit: float | None = None,
    ) -> T:
        request = Request(f"/v3/{path}", json.dumps(body).encode(), limit=limit or self._limit, changes=changes)
        with answer(self._server, request) as response:
            content = read(response, MIB)
            if response.status != 200:
                raise self._refused(content, response.status)
            log.debug("etcd %s: %s", self._server.url, path)
            try:
                return decode(content, type=kind)
            except MsgspecError as error:
                raise ValueError(f"{path}: not an answer of etcd's: {error}") from error

    def _refused(self, content: bytes, status: int) -> EtcdRefusedError:
        try:
            told = decode(content, type=_Refusal)
        except MsgspecError as error:
            raise ValueError(f"HTTP {status}, and not an error of etcd's") from error
        return EtcdRefusedError(told.message, told.code, f"{self._server.url}: {told.message}")


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _blob(line: bytes) -> bytes:
    try:
        told = decode(line, type=_Streamed)
    except MsgspecError as error:
        raise ValueError(f"the snapshot breaks off: {error}") from error
    if told.error is not None:
        raise ValueError(f"the snapshot ends with an error: {told.error.message}")
    if told.result is None:
        raise ValueError("the snapshot has a line without a result")
    return b64decode(told.result.blob, validate=True)
