"""A process that takes one backup and ends. It outlives the daemon, and holds up no reconcile.

Its job comes on standard input, since it holds the store's key: no process list shows it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.json import decode, encode

from protokube.backups.catalogue import Catalogue
from protokube.backups.state import StateFile
from protokube.backups.take import AtWorkError, Source, take
from protokube.core.backup.model import STATE_DIR, BackedUp
from protokube.core.pki.model import PKI_DIR
from protokube.errors import ProviderError, explain
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.transport import Server, Tls
from protokube.host.process import spawn
from protokube.store.place import StorePlace

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from protokube.backups.worker import main; main()"


class Job(Struct, frozen=True):
    """A backup to take. `root` is the node's root; the other paths follow from it."""

    root: str
    store: StorePlace
    cluster: str
    member: BackedUp
    reason: str
    tools: str | None = None

    def __repr__(self) -> str:
        """Without the store's key."""
        return f"Job({self.member.etcd} of {self.cluster})"

    @property
    def folder(self) -> Path:
        """Where the work is done."""
        return work_folder(self.root, self.member.etcd)

    @property
    def state(self) -> StateFile:
        """Where its outcome is remembered."""
        return state_file(self.root, self.member.etcd)


def work_folder(root: str, etcd: str) -> Path:
    """Where backups of an etcd cluster are taken."""
    return Path(root, "var/lib/protokube/backups", etcd)


def state_file(root: str, etcd: str) -> StateFile:
    """Where the outcome of an etcd cluster's backups is remembered."""
    return StateFile(Path(root, STATE_DIR.lstrip("/"), f"{etcd}.json"))


def wake_daemon(root: str, etcd: str) -> None:
    """Let the daemon look now: it watches the directory of these files."""
    path = Path(root, STATE_DIR.lstrip("/"), f"{etcd}.restore")
    with explain(f"write {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n", encoding="ascii")


def own_client(root: str, member: BackedUp, limit: float | None = None) -> EtcdClient:
    """The client of a member of this machine, at its client port."""
    scheme = "https" if member.tls else "http"
    tls = Tls(Path(root, PKI_DIR.lstrip("/"), "etcd-client"), "127.0.0.1") if member.tls else None
    server = Server(f"{scheme}://127.0.0.1:{member.port}", tls)
    return EtcdClient(server) if limit is None else EtcdClient(server, limit)


def begin(job: Job) -> Callable[[], int]:
    """Start the process of a job. What is returned waits for its end, and gives the exit code."""
    asking, question = os.pipe()
    try:
        path = json.dumps([one for one in sys.path if one])
        os.write(question, encode(job))  # far less than a pipe holds
        os.close(question)
        argv = [sys.executable, "-I", "-c", _START, path]
        pid = spawn(argv, [(asking, 0), (2, 2)], session=True, environment=os.environ)
    finally:
        os.close(asking)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(job: Job) -> None:
    """Take the backup, and remember what came of it."""
    catalogue = Catalogue(job.store.open(), job.cluster, job.member.etcd)
    source = Source(own_client(job.root, job.member), job.member.member)
    try:
        record = take(source, catalogue, job.folder, job.reason, job.tools)
    except AtWorkError:
        return
    except ProviderError as error:
        job.state.failed(str(error))
        return
    job.state.succeeded(record)


def main() -> None:
    """Read the job, and do it."""
    job = decode(sys.stdin.buffer.read(), type=Job)
    run(job)
