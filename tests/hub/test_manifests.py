"""Static pods of the hub's: its own files alone, never another's pod, and each change can be taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.clock import wall_time
from protokube.errors import ProviderError
from protokube.hub.core.course import Outcome
from protokube.hub.handlers import End
from protokube.hub.verbs.manifests import Manifests
from tests.hub.core.commands import ID, OTHER
from tests.hub.test_config import Quiet, order

THIRD = "22222222-3a3c-4d3f-9f39-3f0a4a4e9d10"


def pod(name: str, image: str = "web:1") -> str:
    containers = f"[{{name: c, image: '{image}'}}]"
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: {containers}}}\n"


class Machine:
    def __init__(self, folder: Path) -> None:
        self.directory = folder / "manifests"
        self.directory.mkdir()
        self.manifests = Manifests(self.directory, folder / "state", wall_time)
        self.file = self.directory / "hub-web.yaml"

    def put(self, text: str, own: str = ID) -> End:
        return self._run(self.manifests.put(order("manifest.put", own, name="web", text=text), Quiet(), 100.0))

    def remove(self, own: str = ID) -> End:
        return self._run(self.manifests.remove(order("manifest.remove", own, name="web"), Quiet(), 100.0))

    def rollback(self, command: str, own: str = THIRD) -> End | None:
        return asyncio.run(self.manifests.rollback(order("rollback", own, command=command)))

    def _run(self, work: Any) -> End:
        async def awaited() -> End:
            end: End = await work
            return end

        return asyncio.run(awaited())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_manifest_is_put_replaced_and_removed(machine: Machine) -> None:
    assert machine.put(pod("web")).outcome is Outcome.OK
    assert machine.file.read_text() == pod("web") and machine.file.stat().st_mode & 0o777 == 0o600
    assert machine.put(pod("web")).why == "hub-web.yaml is like that already"
    assert machine.put(pod("web", "web:2"), OTHER).outcome is Outcome.OK
    assert machine.manifests.facts() == "web=2"
    assert machine.remove(THIRD).outcome is Outcome.OK
    assert not machine.file.exists() and machine.manifests.facts() == ""
    assert machine.remove(THIRD).why == "hub-web.yaml is like that already"
    assert [path.name for path in machine.directory.iterdir()] == []


def test_each_change_is_taken_back_by_its_command(machine: Machine) -> None:
    machine.put(pod("web"), ID)
    machine.put(pod("web", "web:2"), OTHER)
    back = machine.rollback(OTHER)
    assert back is not None and back.outcome is Outcome.OK and machine.file.read_text() == pod("web")
    machine.remove(OTHER[:-1] + "7")
    back = machine.rollback(OTHER[:-1] + "7")
    assert back is not None and machine.file.read_text() == pod("web")
    machine.rollback(ID)
    assert not machine.file.exists()
    assert machine.rollback("33333333-3a3c-4d3f-9f39-3f0a4a4e9d10") is None


def test_what_was_changed_by_hand_is_kept_as_a_revision(machine: Machine) -> None:
    machine.put(pod("web"), ID)
    machine.file.write_text(pod("web", "mine:1"))
    machine.put(pod("web", "web:2"), OTHER)
    machine.rollback(OTHER)
    assert machine.file.read_text() == pod("web", "mine:1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind: Pod\n", "apiVersion: v1 was expected"),
        ("a: [", "neither JSON nor YAML"),
        (pod("web").replace("spec: {", "spec: {serviceAccountName: x, "), "serviceAccountName"),
        ("", "it is empty"),
    ],
)
def test_what_the_agent_would_refuse_is_never_put(machine: Machine, text: str, why: str) -> None:
    end = machine.put(text)
    assert end.outcome is Outcome.FAILED and why in end.why
    assert not machine.file.exists()


def test_another_file_s_pod_is_never_taken_over(machine: Machine) -> None:
    volume = machine.directory.parent / "volume"
    volume.mkdir()
    (volume / "etcd.manifest").write_text(pod("etcd-main", "etcd:3.5"))
    etcd = machine.directory / "etcd.manifest"
    etcd.symlink_to(volume / "etcd.manifest")
    (machine.directory / "kube-apiserver.manifest").write_text(pod("kube-apiserver").replace("kind: Pod", "kind: P"))
    for name, file in (("etcd-main", "etcd.manifest"), ("kube-apiserver", "kube-apiserver.manifest")):
        end = machine.put(pod(name))
        assert end.outcome is Outcome.FAILED and file in end.why
    assert etcd.is_symlink() and not machine.file.exists()


def test_a_link_is_none_of_the_hub_s(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(pod("web"))
    machine.file.symlink_to(other)
    with pytest.raises(ProviderError, match="no regular file"):
        machine.put(pod("web", "web:2"))
    with pytest.raises(ProviderError, match="no regular file"):
        machine.remove()
    assert machine.file.is_symlink() and other.read_text() == pod("web")


def test_without_the_agent_s_directory_it_says_so(machine: Machine) -> None:
    machine.directory.rmdir()
    with pytest.raises(ProviderError, match="is virtual-kubelet set up here"):
        machine.put(pod("web"))


@pytest.mark.parametrize("effect", ["add", "put", "write"])
def test_cut_off_anywhere_it_is_the_old_or_the_new_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, effect: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    machine.put(pod("web"), ID)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        if effect == "write":
            patched.setattr("protokube.hub.verbs.manifests.write_atomically", killed)
            machine.put(pod("web", "web:2"), OTHER)
        else:
            patched.setattr(f"protokube.hub.verbs.revisions.Revisions.{effect}", killed)
            machine.remove(OTHER)
    assert machine.file.read_text() == pod("web")
    assert machine.put(pod("web", "web:3"), THIRD).outcome is Outcome.OK
    machine.rollback(THIRD)
    assert machine.file.read_text() == pod("web")
