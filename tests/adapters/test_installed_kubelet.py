"""The installed kubelet and the machine's facts, read below a root."""

from __future__ import annotations

from pathlib import Path

import pytest

from protokube.errors import ProviderError
from protokube.host.kubelet import InstalledKubelet

FACTS = {
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "proc/swaps": "Filename\t\t\tType\t\tSize\n/dev/sda2   partition\t999\t0\t-2\n/swap\\040file file\t9\t0\t-3\n",
    "sys/devices/system/cpu/online": "0-2,5\n",
    "sys/devices/system/node/online": "0-1\n",
    "etc/resolv.conf": "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\nsearch a\n",
    "run/systemd/resolve/resolv.conf": "nameserver 10.0.0.2\nnameserver fd00::2 \n nameserver\n",
}


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def install(root: Path, path: str, version: str, mode: int = 0o755) -> None:
    answers = f'--version) echo Kubernetes v{version};; *) echo "      --{path[:3]}-flag int"'
    script = f'#!/bin/sh\ncase "$1" in {answers};; esac\n'
    write(root, {path: script})
    (root / path).chmod(mode)


def test_every_fact_is_read(tmp_path: Path) -> None:
    write(tmp_path, FACTS)
    (tmp_path / "run/systemd/system").mkdir()
    machine = InstalledKubelet(str(tmp_path)).machine()
    assert machine.memory > 0
    assert machine.cpus > 0
    assert machine.systemd
    assert machine.cgroup_v2 is True
    assert machine.swap == ("/dev/sda2", "/swap\\040file")
    assert machine.online_cpus == frozenset({0, 1, 2, 5})
    assert machine.numa_nodes == frozenset({0, 1})
    assert machine.nameservers == ("127.0.0.53",)
    assert machine.uplink_nameservers == ("10.0.0.2", "fd00::2")


def test_what_is_not_there_is_unknown_and_never_empty(tmp_path: Path) -> None:
    machine = InstalledKubelet(str(tmp_path)).machine()
    assert not machine.systemd
    unknown = (machine.cgroup_v2, machine.swap, machine.online_cpus, machine.numa_nodes, machine.nameservers)
    assert {*unknown, machine.uplink_nameservers} == {None}
    write(tmp_path, {"sys/devices/system/cpu/online": "all of them\n"})
    assert InstalledKubelet(str(tmp_path)).machine().online_cpus is None


def test_a_cgroup_v1_machine_has_controllers_in_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/unified").mkdir()
    assert InstalledKubelet(str(tmp_path)).machine().cgroup_v2 is False


def test_what_an_administrator_may_change_is_read_each_time(tmp_path: Path) -> None:
    write(tmp_path, FACTS)
    probe = InstalledKubelet(str(tmp_path))
    assert probe.machine().swap
    write(tmp_path, {"proc/swaps": "Filename\t\t\tType\n", "etc/resolv.conf": "nameserver 10.0.0.3\n"})
    assert (probe.machine().swap, probe.machine().nameservers) == ((), ("10.0.0.3",))


def test_the_kubelet_of_the_unit_is_the_one_that_is_asked(tmp_path: Path) -> None:
    install(tmp_path, "usr/bin/kubelet", "1.20.2")
    install(tmp_path, "opt/bin/kubelet", "1.36.2")
    probe = InstalledKubelet(str(tmp_path))
    first, named = probe.kubelet(), probe.kubelet("/opt/bin/kubelet")
    assert first is not None
    assert named is not None
    assert (first.version, first.flags) == ("v1.20.2", frozenset({"usr-flag"}))
    assert (named.version, named.flags) == ("v1.36.2", frozenset({"opt-flag"}))


def test_a_unit_that_names_a_kubelet_which_is_not_there_has_none(tmp_path: Path) -> None:
    install(tmp_path, "usr/bin/kubelet", "1.20.2")
    assert InstalledKubelet(str(tmp_path)).kubelet("/opt/kubernetes/kubelet") is None


def test_another_program_that_starts_kubelet_is_never_run(tmp_path: Path) -> None:
    install(tmp_path, "usr/bin/kubelet", "1.20.2")
    write(tmp_path, {"bin/sh": f"#!/bin/sh\ntouch {tmp_path}/was-run\n"})
    (tmp_path / "bin/sh").chmod(0o755)
    found = InstalledKubelet(str(tmp_path)).kubelet("/bin/sh")
    assert found is not None
    assert found.version == "v1.20.2"
    assert not (tmp_path / "was-run").exists()


def test_a_binary_is_asked_again_only_when_it_is_another_file(tmp_path: Path) -> None:
    install(tmp_path, "usr/bin/kubelet", "1.20.2")
    probe = InstalledKubelet(str(tmp_path))
    first = probe.kubelet()
    assert probe.kubelet() is first
    install(tmp_path, "usr/bin/kubelet", "1.20.15")
    second = probe.kubelet()
    assert second is not None
    assert second.version == "v1.20.15"


def test_a_kubelet_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    install(tmp_path, "usr/bin/kubelet", "1.20.2", mode=0o644)
    with pytest.raises(ProviderError, match="is not executable"):
        InstalledKubelet(str(tmp_path)).kubelet()
