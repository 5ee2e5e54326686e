"""What a command says of an etcd cluster whose member can't be seen: it never leaves one out silently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protokube.core.assess import assess
from protokube.core.disks.model import Mounted
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.etcdcommand import look, run
from protokube.etcdcommand.look import ImpossibleError, Node, unseen_members
from tests.core.states import FORMATTED, NO_HISTORY, VOLUME, changed, config_of, contents, mounted, state


def node(observed: Observed) -> Node:
    """A node whose snapshot is this one."""
    config = config_of()
    seen = SimpleNamespace(judged=assess(config, observed, NO_HISTORY.seen(observed)), observed=observed)
    observer = SimpleNamespace(first=lambda _history: seen)
    chosen = SimpleNamespace(config=config, settings=SimpleNamespace(root="/nowhere"))
    return Node(cast(Any, chosen), cast(Any, None), cast(Any, observer))


def here(**facts: Any) -> Observed:
    return changed(state(Mounted(), tags=FORMATTED, mounts=(mounted(),)), **facts)


def test_a_member_whose_volume_can_t_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    unread = here(contents={VOLUME: Unknown("it took longer than 10 s")})
    with pytest.raises(ImpossibleError, match=r"can be seen now .*it took longer than 10 s.*again"):
        node(unread).clusters(None, blank=True)
    assert f"left out: etcd cluster main: its volume {VOLUME}: it took longer" in capsys.readouterr().err
    with pytest.raises(ImpossibleError, match="runs no member of etcd cluster events"):
        node(unread).clusters("events", blank=True)


def test_a_command_for_all_etcd_clusters_fails_where_one_was_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that lists, takes or proves backups of all would take one cluster for all of them."""

    @contextmanager
    def looking(*_: object) -> Iterator[Node]:
        yield node(here(contents={VOLUME: contents()}))

    monkeypatch.setattr(run, "looking", looking)
    monkeypatch.setattr(run, "_run", lambda _command, _chosen, looked: bool(looked.clusters(None, blank=True)))
    command = cast(Any, SimpleNamespace(verb="backups"))
    assert run.etcd(command, cast(Any, None), 0.0)
    monkeypatch.setattr(look, "unseen_members", lambda _judged: iter([("events", "its volume vol-e: it hangs")]))
    assert not run.etcd(command, cast(Any, None), 0.0)
    assert "left out: etcd cluster events: its volume vol-e: it hangs" in capsys.readouterr().err


def test_one_whose_volume_isn_t_mounted_is_named() -> None:
    observed = state(tags=FORMATTED)
    judged = assess(config_of(), observed, NO_HISTORY.seen(observed))
    assert [key for key, _ in unseen_members(judged)] == ["main"]


def test_one_that_is_seen_is_not_left_out() -> None:
    observed = here(contents={VOLUME: contents()})
    assert list(unseen_members(assess(config_of(), observed, NO_HISTORY.seen(observed)))) == []


def test_a_silent_cloud_isn_t_taken_for_a_node_without_members() -> None:
    with pytest.raises(ImpossibleError, match=r"volumes aren't known .*the cloud hangs"):
        node(here(volumes=Unknown("the cloud hangs"))).clusters(None)
