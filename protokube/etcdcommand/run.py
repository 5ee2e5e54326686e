"""Carries out a `protokube etcd` command: shows the plan, asks, acts; or tells why not."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

from msgspec.json import encode

from protokube.config.choice import Chosen
from protokube.config.commands import EtcdCommand
from protokube.core.etcd.health import problems
from protokube.core.etcd.status import status_json, status_text
from protokube.core.static_pod import image_version, spell_version
from protokube.errors import ProviderError, StoreError, UsageError
from protokube.etcdcommand.backup import backup_before
from protokube.etcdcommand.backups import as_json, catalogue_of, list_text, older_of, prove_again, records_of
from protokube.etcdcommand.defrag import defragment
from protokube.etcdcommand.look import Cluster, ImpossibleError, Node, looking
from protokube.etcdcommand.newcluster import allow_new
from protokube.etcdcommand.replace import replace_member
from protokube.etcdcommand.restore import Restore
from protokube.etcdcommand.rotate import rotate_certificates
from protokube.etcdcommand.upgrade import show_upgrade


def etcd(command: EtcdCommand, chosen: Chosen, started: float) -> bool:
    """Carry out a command. False, with the reason on stderr, when it can't be, or the operator says no.

    Status is False when something is wrong, and every command is when it had to leave out an etcd cluster.

    Raises UsageError where there is nobody to ask.
    """
    try:
        with looking(chosen, started) as node:
            return _run(command, chosen, node) and not node.left_out
    except (ImpossibleError, ProviderError) as error:
        rule = f"{error.rule}: " if isinstance(error, StoreError) else ""
        print(f"protokube etcd {command.verb}: {rule}{error}", file=sys.stderr)
        return False


def _run(command: EtcdCommand, chosen: Chosen, node: Node) -> bool:
    clusters = node.clusters(command.cluster, blank=command.verb in ("restore", "backups", "new"))
    if command.verb == "status":
        return _status(chosen, node, command.cluster)
    if command.verb == "backups":
        return _backups(chosen, clusters, command.backup)

    def ask() -> None:
        if not command.yes:
            _confirm()

    confirm = None if chosen.settings.dry_run else ask
    if command.verb == "defrag":
        for cluster in clusters:
            defragment(node, cluster, confirm)
    elif command.verb == "upgrade":
        for cluster in clusters:
            backup = partial(backup_before, chosen, cluster, "before an upgrade")
            show_upgrade(node, cluster, command.to or _configured(chosen), backup, confirm)
    elif command.verb == "new":
        (cluster,) = clusters
        allow_new(chosen, cluster, confirm)
    elif command.verb == "rotate":
        for cluster in clusters:
            rotate_certificates(chosen, cluster, time.time(), confirm)
    elif command.verb == "backup":
        for cluster in clusters:
            print(f"etcd cluster {cluster.key}: {backup_before(chosen, cluster, 'by command')}")
    elif command.verb == "restore":
        (cluster,) = clusters
        restore = Restore(chosen, cluster)
        if command.abandon:
            restore.abandon(confirm)
        else:
            restore.run(command.backup, confirm, chosen.settings.timeout)
    else:
        assert command.member is not None
        (cluster,) = clusters

        backup = partial(backup_before, chosen, cluster, f"before member {command.member} is replaced")
        replace_member(node, cluster, command.member, backup, confirm, chosen.settings.timeout)
    return True


def _configured(chosen: Chosen) -> str:
    """The version of the image that the configuration names."""
    settings = chosen.config.etcd
    image = settings.image or settings.default_image
    version = spell_version(image_version(image))
    if version is None:
        raise ImpossibleError(f"{image} names no version: say which one with --to")
    return version


def _backups(chosen: Chosen, clusters: Sequence[Cluster], wanted: str | None) -> bool:
    if wanted is not None:
        (cluster,) = clusters
        return prove_again(chosen, cluster, wanted)
    found = {cluster.key: records_of(catalogue_of(chosen, cluster)) for cluster in clusters}
    if chosen.settings.output == "json":
        told = [as_json(cluster, found[cluster.key]) for cluster in clusters]
        print(encode({"version": 1, "clusters": told}).decode())
    else:
        for cluster in clusters:
            catalogue = catalogue_of(chosen, cluster)
            incomplete = len(catalogue.listing().incomplete)
            print(list_text(cluster, found[cluster.key], incomplete, older_of(catalogue)))
    return all(found.values())


def _status(chosen: Chosen, node: Node, wanted: str | None) -> bool:
    views = {cluster.key: node.view(cluster) for cluster in node.clusters(wanted)}
    found = {key: problems(key, view) for key, view in views.items()}
    if chosen.settings.output == "json":
        told = [status_json(key, view, found[key]) for key, view in views.items()]
        print(encode({"version": 1, "clusters": told}).decode())
    else:
        print("\n".join(status_text(key, view, found[key]) for key, view in views.items()))
    return not any(found.values())


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise UsageError("etcd: there is no terminal to ask at; say --yes if this is to happen")
    if input("Go on? Only yes is yes: ").strip() != "yes":
        raise ImpossibleError("nothing was done")
