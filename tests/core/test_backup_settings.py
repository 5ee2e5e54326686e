"""How etcd is to be backed up, as the configuration file says it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.config.backup import EVERY, backup_settings
from protokube.config.etcd import etcd_image, etcd_quota, node_clients
from protokube.core.backup.model import BackupSettings
from protokube.core.etcd.template import render_manifest
from protokube.core.located import Section, parse
from protokube.core.model import GIB, Fault
from protokube.core.static_pod import manifest_env
from protokube.core.volumes.model import EtcdMember
from tests.rounds.process import templates


def read(text: str, *, store_shared: bool = False) -> tuple[BackupSettings, list[str]]:
    document, found = parse(text, "config.yaml")
    assert document is not None and not found
    faults: list[Fault] = []
    section = Section.of(document, ("etcd",), faults)
    return backup_settings(section, faults, store_shared=store_shared), [str(fault) for fault in faults]


def test_they_are_taken_where_a_store_or_the_backups_are_named() -> None:
    assert backup_settings(None, [], store_shared=False) == BackupSettings(None)
    assert backup_settings(None, [], store_shared=True) == BackupSettings(EVERY)
    assert read("etcd: {backup: {}}") == (BackupSettings(EVERY), [])
    assert read("etcd: {}", store_shared=True) == (BackupSettings(EVERY), [])


@pytest.mark.parametrize(
    ("every", "seconds"),
    [("15m", 900.0), ("90s", 90.0), ("1.5h", 5400.0), ("30", 30.0), ("off", None), ("false", None)],
)
def test_an_interval_is_a_time_or_off(every: str, seconds: float | None) -> None:
    settings, faults = read(f"etcd: {{backup: {{every: {every}, keep: 3, keepDaily: 2, tools: /opt/etcd}}}}")
    assert (settings, faults) == (BackupSettings(seconds, 3, 2, "/opt/etcd"), [])


@pytest.mark.parametrize(
    "text",
    [
        "etcd: {backup: {every: often}}",
        "etcd: {backup: {every: 0}}",
        "etcd: {backup: {every: true}}",
        "etcd: {backup: {keep: 0}}",
        "etcd: {backup: {keepDaily: 1.5}}",
        "etcd: {backup: {keeep: 1}}",
        "etcd: {backups: {}}",
    ],
)
def test_what_can_t_be_understood_is_refused_with_its_place(text: str) -> None:
    _, faults = read(text)
    assert len(faults) == 1 and "config.yaml" in faults[0]


@pytest.mark.parametrize(
    ("text", "size", "fault"),
    [
        ("etcd: {quota: 8GiB}", 8 * GIB, ""),
        ("etcd: {backup: {}}", None, ""),
        ("etcd: {quota: 8}", None, "such as 8GiB"),
        ("etcd: {quota: 1MiB}", None, "such as 8GiB"),
        ("etcd: {quota: 1TiB}", None, "such as 8GiB"),
    ],
)
def test_a_quota_is_a_size_within_bounds(text: str, size: int | None, fault: str) -> None:
    document, found = parse(text, "config.yaml")
    assert document is not None and not found
    faults: list[Fault] = []
    section = Section.of(document, ("etcd",), faults)
    assert etcd_quota(section, templates(), faults) == size
    assert [fault in str(one) for one in faults] == ([True] if fault else [])


@pytest.mark.parametrize(
    ("text", "named", "image", "fault"),
    [
        ("etcd: {version: 3.6.8}", None, "registry.k8s.io/etcd:3.6.8-0", ""),
        ("etcd: {quota: 8GiB}", "mirror.example.com/etcd:3.5.30-0", "mirror.example.com/etcd:3.5.30-0", ""),
        ("etcd: {quota: 8GiB}", None, None, ""),
        ("etcd: {version: 3.6}", None, None, "such as 3.6.8"),
        ("etcd: {version: v3.6.8}", None, None, "such as 3.6.8"),
        (
            "etcd: {version: 3.6.8}",
            "mirror.example.com/etcd:3.5.30-0",
            "registry.k8s.io/etcd:3.6.8-0",
            "one of the two",
        ),
    ],
)
def test_a_version_stands_for_the_image_of_kubernetes_s_registry(
    text: str, named: str | None, image: str | None, fault: str
) -> None:
    document, found = parse(text, "config.yaml")
    assert document is not None and not found
    faults: list[Fault] = []
    assert etcd_image(Section.of(document, ("etcd",), faults), named, faults) == image
    assert [fault in str(one) for one in faults] == ([True] if fault else [])


def test_a_template_that_says_nothing_of_a_quota_is_told() -> None:
    document, _ = parse("etcd: {quota: 8GiB}", "config.yaml")
    assert document is not None
    faults: list[Fault] = []
    older = {key: replace(one, supports_quota=False) for key, one in templates().items()}
    etcd_quota(Section.of(document, ("etcd",), faults), older, faults)
    assert ["$if: quota" in str(one) for one in faults] == [True]


@pytest.mark.parametrize(
    ("where", "tls", "older", "fault"),
    [
        ("127.0.0.1", "off", True, ""),
        ("node", "auto", False, ""),
        ("node", "off", False, "--etcd-tls is off"),
        ("node", "on", True, "$if: node-clients"),
    ],
)
def test_clients_of_other_nodes_need_tls_and_a_template_that_knows_them(
    where: str, tls: str, older: bool, fault: str
) -> None:
    known = {key: replace(one, supports_node_clients=not older) for key, one in templates().items()}
    faults: list[Fault] = []
    assert node_clients(where, tls, known, faults) == (where == "node")
    assert [fault in str(one) for one in faults] == ([True] if fault else [])


def test_the_manifest_has_the_quota_and_without_one_nothing_of_it() -> None:
    template, member = templates()["main"], EtcdMember("main", "a", ("a",))

    def env(quota: int | None) -> str | None:
        text = render_manifest(
            template,
            member,
            mount_point="/mnt/x",
            dns_suffix=".internal.c",
            image="registry.k8s.io/etcd:3.6.6-0",
            state="new",
            hosts=True,
            quota=quota,
        )
        return manifest_env(text).get("ETCD_QUOTA_BACKEND_BYTES")

    assert env(8 * GIB) == str(8 * GIB) and env(None) is None
