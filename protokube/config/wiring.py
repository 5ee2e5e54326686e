"""Puts the adapters behind the ports. It opens no file of the configuration, and can't fail.

What is chosen by the configuration is made by the choice (choice.py); what is asked by few nodes is loaded when it is
first asked (on_demand.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from protokube.config.choice import Chosen
from protokube.config.on_demand import (
    Backups,
    Bus,
    Endpoints,
    Kubelet,
    Objects,
    OwnEtcd,
    Peers,
    Pki,
    Wake,
    ask_timedated,
)
from protokube.core.backup.model import STATE_DIR as BACKUP_STATE_DIR
from protokube.core.disks.accepted import ACCEPTED_DIR
from protokube.core.settings import NodeConfig
from protokube.eventloop import EventLoop
from protokube.host.blockdev import BlockDevices
from protokube.host.files import NodeFiles
from protokube.ports import DNSProvider, EtcdReader, Readers, Writers
from protokube.store.place import StorePlace

RUN_DIR = "run/protokube"
BUS = "run/dbus/system_bus_socket"


def own_etcd(root: str, store: StorePlace) -> EtcdReader:
    """This machine's own etcd members, to be asked by a command."""
    return OwnEtcd(root, Peers(Pki(root, store)))


class Wired(Struct, frozen=True):
    """The configuration, and the ports.

    `dns` mends, at the start, a file that a crash left half written. `watch` are directories whose changes matter;
    `running` maps volumes to the process that works on each; `close` closes everything. `disks` serve the next
    configuration too. `files` are single files whose changes matter.
    """

    config: NodeConfig
    readers: Readers
    writers: Writers
    dns: DNSProvider | None
    watch: tuple[Path, ...]
    running: Callable[[], Mapping[str, int]]
    close: Callable[[], None]
    disks: BlockDevices | None = None
    files: tuple[Path, ...] = ()


def wire(chosen: Chosen, loop: EventLoop, wake: Wake, disks: BlockDevices | None = None) -> Wired:
    """Make the adapters. Touches nothing yet.

    `loop` is the main thread's event loop, which need not run before an adapter that lives in it is asked. `disks`
    are those of the configuration before: their child processes may hang, and none is started a second time.
    """
    settings, config = chosen.settings, chosen.config
    cloud, cloud_watch, vpc = chosen.cloud()
    dns = chosen.dns(cloud, vpc)
    run_dir, data_dirs = str(Path(settings.root, RUN_DIR)), config.disks.data_dirs
    disks = disks or BlockDevices(settings.root, run_dir, data_dirs, prove_every_byte=settings.prove_every_byte)
    disks.data_dirs = data_dirs  # the templates may be others than in the configuration before
    files = NodeFiles(settings.root)
    bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={Path(settings.root, BUS)}"
    pki = Pki(settings.root, chosen.store, partial(ask_timedated, bus))
    peers = Peers(pki)
    etcd = OwnEtcd(settings.root, peers)
    backups = Backups(settings.root, chosen.store, config.backup.tools, wake)
    objects = Objects(settings.root, config.kubelet.api_port, wake, config.addons)
    services = None if config.kubelet.unit is None else Bus(loop, bus, wake)
    manifests = Path(settings.root, config.etcd.manifest_dir.lstrip("/"))
    accepted = Path(settings.root, ACCEPTED_DIR.lstrip("/"))
    watch = [Path("/dev"), Path("/dev/disk/by-id"), manifests, accepted, *cloud_watch]
    if config.master:
        # A backup that an earlier daemon has begun ends there.
        watch.append(Path(settings.root, BACKUP_STATE_DIR.lstrip("/")))
    if services is not None:
        watch.append(Path(settings.root, BUS).parent)  # a bus that comes late is no reason to wait for the clock

    def close() -> None:
        if services is not None:
            services.close()
        objects.close()
        cloud.close()

    return Wired(
        config,
        Readers(
            cloud,
            disks,
            files,
            peers,
            Kubelet(settings.root),
            dns,
            services,
            pki,
            backups,
            etcd,
            objects,
            Endpoints(settings.root),
        ),
        {
            "cloud": cloud,
            "disks": disks,
            "files": files,
            "dns": dns,
            "services": services,
            "pki": pki,
            "backups": backups,
            "etcd": etcd,
            "objects": objects,
        },
        dns,
        tuple(watch),
        disks.running,
        close,
        disks,
        dns.watch if dns is not None else (),
    )
