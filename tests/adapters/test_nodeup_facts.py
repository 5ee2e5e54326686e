"""The facts of a machine and of a tree, and the calls that change a running machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nodeup.facts import TreeReader
from nodeup.machine import RunningMachine
from protokube.errors import ProviderError
from tests.lab import inside
from tests.lab.nodeup_tree import debian, put
from tests.lab.systemd_node import SystemdNode


def test_a_tree_tells_what_stands_in_it(tmp_path: Path) -> None:
    facts = TreeReader(str(debian(tmp_path)), running=False).read(("ssh.service", "absent.service"), ())
    assert (facts.os.id, facts.os.version, facts.architecture) == ("debian", "12", "arm64")
    assert facts.packages["openssh-server"] == "1:9.2p1-2+deb12u3" and not facts.interrupted
    assert facts.packaged_units == {"ssh.service": "/usr/lib/systemd/system/ssh.service"}
    assert facts.programs["containerd"] == "/usr/bin/containerd" and facts.plugins == ("/usr/lib/cni",)
    assert facts.running is None and facts.machine_id == ""


def test_an_empty_tree_is_no_debian_and_has_nothing(tmp_path: Path) -> None:
    facts = TreeReader(str(tmp_path), running=False).read(("ssh.service",), ())
    assert (facts.os.id, facts.packages, facts.programs, facts.containerd) == ("", {}, {}, None)


@pytest.mark.parametrize("state", ["half-installed", "unpacked", "half-configured"])
def test_a_package_that_dpkg_left_unfinished_is_not_installed(tmp_path: Path, state: str) -> None:
    put(tmp_path, "var/lib/dpkg/status", f"Package: jq\nStatus: install ok {state}\nVersion: 1\n")
    facts = TreeReader(str(tmp_path), running=False).read((), ())
    assert facts.interrupted and facts.packages == {}


def test_a_journal_of_dpkg_is_unfinished_work(tmp_path: Path) -> None:
    put(debian(tmp_path), "var/lib/dpkg/updates/0001", "")
    assert TreeReader(str(tmp_path), running=False).read((), ()).interrupted


def test_a_containerd_that_no_package_brought_is_asked(tmp_path: Path) -> None:
    root = debian(tmp_path, {"dpkg": "1"})
    (root / "usr/bin/containerd").unlink()
    put(root, "usr/local/bin/containerd", "#!/bin/sh\necho containerd github.com/containerd/containerd v2.1.4 75cb\n")
    assert TreeReader(str(root), running=True).read((), ()).containerd == "2.1.4"
    put(root, "usr/local/bin/containerd", "#!/nowhere\n")
    assert str(TreeReader(str(root), running=True).read((), ()).containerd).startswith("unknown: ")


def test_a_tree_s_programs_are_never_run(tmp_path: Path) -> None:
    root = debian(tmp_path / "root", {"dpkg": "1"})
    put(root, "usr/bin/containerd", f"#!/bin/sh\ntouch {tmp_path}/ran\necho v2.1.4\n")
    assert TreeReader(str(root), running=False).read((), ()).containerd == "unknown: no package brought it"
    assert not (tmp_path / "ran").exists()


def test_a_tree_s_links_lead_to_the_tree(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    put(tmp_path, "host/kubelet", "#!/bin/sh\n")
    (root / "usr/bin/kubelet").unlink()
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/kubelet").symlink_to(tmp_path / "host/kubelet")
    (root / "usr/bin/protokube").unlink()
    put(root, "opt/protokube/protokube", "#!/bin/sh\n")
    (root / "usr/bin/protokube").symlink_to("/opt/protokube/protokube")
    (root / "etc/os-release").rename(root / "usr/lib/os-release")
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    facts = TreeReader(str(root), running=False).read((), ())
    assert "kubelet" not in facts.programs and facts.programs["protokube"] == "/usr/bin/protokube"
    assert facts.os.id == "debian"


def test_a_running_machine_tells_its_modules_sysctls_and_names(tmp_path: Path) -> None:
    root = debian(tmp_path)
    put(root, "proc/modules", "br_netfilter 32768 0 - Live 0x0\n")
    put(root, "proc/filesystems", "nodev\tsysfs\n\text4\n\toverlay\n")
    put(root, f"lib/modules/{os.uname().release}/modules.builtin", "kernel/net/netfilter/nf-conntrack.ko\n")
    put(root, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
    put(root, "proc/sys/kernel/panic", "10\n")
    put(root, "proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    put(root, "run/cloud-init/instance-data.json", '{"v1": {"local_hostname": "ip-10-0-0-1"}}')
    (root / "run/systemd/system").mkdir(parents=True)
    running = TreeReader(str(root), running=True).read((), ("kernel.panic", "kernel.absent")).running
    assert running is not None
    assert {"br_netfilter", "overlay", "nf_conntrack"} <= running.modules and running.can_load
    assert running.sysctls == {"kernel.panic": "10"} and running.swap == ("/dev/sda2",)
    assert running.cloud_hostname == "ip-10-0-0-1" and running.systemd


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/self/status", "CapEff:\t00000000a80425fb\n"),
        ("proc/sys/kernel/modules_disabled", "1\n"),
    ],
)
def test_a_machine_that_may_load_no_module_says_so(tmp_path: Path, path: str, text: str) -> None:
    root = debian(tmp_path)
    put(root, "proc/modules", "")
    put(root, "proc/self/status", "CapEff:\t000001ffffffffff\n")
    put(root, path, text)
    running = TreeReader(str(root), running=True).read((), ()).running
    assert running is not None and not running.can_load


@pytest.mark.parametrize("text", ["", "{", "[]", '{"v1": {}}', '{"v1": {"local_hostname": 5}}'])
def test_cloud_init_that_has_not_asked_yet_has_no_name(tmp_path: Path, text: str) -> None:
    root = debian(tmp_path)
    put(root, "run/cloud-init/instance-data.json", text)
    running = TreeReader(str(root), running=True).read((), ()).running
    assert running is not None and running.cloud_hostname is None


@pytest.mark.root
def test_a_sysctl_is_set_in_the_kernel() -> None:
    """Of this test's own network namespace."""
    path = Path("/proc/sys/net/ipv4/conf/lo/forwarding")
    RunningMachine("/").set_sysctl("net.ipv4.conf.lo.forwarding", "1")
    assert path.read_text() == "1\n"
    RunningMachine("/").set_sysctl("net.ipv4.conf.lo.forwarding", "0")
    assert path.read_text() == "0\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("net.ipv4.conf.lo.forwarding", "many", "set net.ipv4.conf.lo.forwarding = many: Invalid argument"),
        ("net.ipv4.absent", "1", "this kernel has no such sysctl"),
    ],
)
def test_a_sysctl_that_the_kernel_refuses_is_told(key: str, value: str, said: str) -> None:
    with pytest.raises(ProviderError, match=said):
        RunningMachine("/").set_sysctl(key, value)


@pytest.mark.root
@pytest.mark.parametrize("root", ["/", "/proc/self/root"])
def test_a_module_that_isn_t_there_is_told(root: str) -> None:
    """Below another root its own modprobe is asked."""
    with pytest.raises(ProviderError, match=r"modprobe no-such-module: exit code 1: .*no-such-module"):
        RunningMachine(root).load_module("no-such-module")


@pytest.mark.root
def test_a_root_without_the_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="modprobe overlay: exit code 127"):
        RunningMachine(str(tmp_path)).load_module("overlay")


@pytest.mark.root
def test_swap_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "swap"
    file.touch()
    with pytest.raises(ProviderError, match=f"turn off swap on {file}: Invalid argument"):
        RunningMachine("/").turn_off_swap((str(file),))


@pytest.mark.root
def test_who_may_not_ask_for_the_clock_knows_nothing_of_it(tmp_path: Path) -> None:
    read = "from nodeup.facts import TreeReader as T; print(T('/', running=True).read((), ()).running.synchronised)"
    forbid = ("-p", "SystemCallFilter=~@clock", "-p", "SystemCallErrorNumber=EPERM")
    with SystemdNode(tmp_path) as node:
        unit = ("systemd-run", "--pipe", "--wait", "--quiet", f"--working-directory={inside.CHECKOUT}", *forbid)
        assert node.run(*unit, inside.PYTHON, "-Bc", read).stdout == "None\n"


@pytest.mark.parametrize("name", ["chrony", "systemd-timesyncd=252.1", "jq"])
def test_a_time_service_that_is_installed_runs_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], bool]] = []

    def run(argv: list[str], **given: Any) -> subprocess.CompletedProcess[bytes]:
        calls.append((argv[2:], "SYSTEMD_OFFLINE" in given["env"]))
        return subprocess.CompletedProcess(argv, 0, b"")

    monkeypatch.setattr("nodeup.machine.subprocess.run", run)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    RunningMachine(str(tmp_path)).install_packages([name])
    (installed, offline), *started = calls
    assert installed[-1] == name and offline
    unit = f"{name.partition('=')[0]}.service"
    assert started == [(["systemctl", "start", "--no-block", unit], False)] * (name != "jq")
