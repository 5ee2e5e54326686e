"""How etcd is to be backed up, as the configuration file says it."""

from __future__ import annotations

import pytest

from protokube.config.backup import EVERY, backup_settings
from protokube.core.backup.model import BackupSettings
from protokube.core.located import Section, parse
from protokube.core.model import Fault


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
