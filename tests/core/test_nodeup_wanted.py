"""What a machine is to have, and the steps to it: decisions, as tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nodeup.sources import shipped_units
from protokube.core.action import ActionValue
from protokube.core.node import clock, kernel
from protokube.core.node.hostname import name_of, wanted_hostname
from protokube.core.node.machine import MachineFacts, Running, TreeFacts
from protokube.core.node.model import Absent, File, FileState, Link, UnitState
from protokube.core.node.needs import NodeupFacts, needs
from protokube.core.node.settings import NodeupSettings, read_settings
from protokube.core.node.unit_files import stays_active, with_program
from protokube.core.node.wanted import wanted
from protokube.core.node.wants import Wanted
from protokube.core.steps import Plan

UNITS = shipped_units()
SYSCTLS = {key: value for key, (value, _) in kernel.SYSCTLS.items()}
RUNNING = Running(
    modules=frozenset(kernel.MODULES),
    sysctls=SYSCTLS,
    hostname="node-a",
    clock=clock.BUILT + 1,
    synchronised=True,
)
PACKAGES = {"kmod": "30", "containerd": "1.7.24", "containernetworking-plugins": "1", "systemd-timesyncd": "257"}
MACHINE = MachineFacts(
    packages=PACKAGES,
    programs={name: f"/usr/bin/{name}" for name in ("protokube", "nodeup", "kubelet", "containerd")},
    packaged_units={
        "containerd.service": "/usr/lib/systemd/system/containerd.service",
        "systemd-time-wait-sync.service": "/usr/lib/systemd/system/systemd-time-wait-sync.service",
    },
    containerd="1.7.24",
    plugins=("/usr/lib/cni",),
    machine_id="0123456789abcdef0123456789abcdef",
    running=RUNNING,
)
STARTED = UnitState("loaded", "active", "running", started_at=1000.0)


def settings(text: str = "") -> NodeupSettings:
    read, faults = read_settings(f"cluster: dev.example.com\n{text}", "node.yaml")
    assert not faults
    return read


def judged(machine: MachineFacts = MACHINE, text: str = "") -> Wanted:
    return wanted(settings(text), machine, UNITS, "master: false\n")


def tree(out: Wanted, *, written: float = 500.0) -> TreeFacts:
    """A tree in which all that is wanted is there."""
    files: dict[str, FileState] = dict.fromkeys(out.paths, Absent())
    files |= {file.path: File(file.content, file.mode, int(written * 1e9)) for file in out.files}
    files |= {link.path: Link(link.target, 0) for link in out.links}
    files |= {path: Link(each.file, 0) for each in out.enabled for path in each.links}
    return TreeFacts(files, dict.fromkeys(out.units, STARTED))


def plan(machine: MachineFacts = MACHINE, text: str = "", node: TreeFacts | None = None) -> Plan:
    out = judged(machine, text)
    return needs(out, NodeupFacts(machine, node or tree(out)))


def running(**changes: object) -> MachineFacts:
    return MACHINE.with_running(**changes)


def described(found: Plan) -> list[str]:
    actions = [step.action for step in found.steps]
    assert all(isinstance(action, ActionValue) for action in actions)
    return [action.describe() for action in actions]


def test_a_prepared_machine_needs_nothing() -> None:
    found = plan()
    assert found.converged, found


def test_modules_come_before_sysctls_and_each_line_bears_its_reason() -> None:
    files = {file.path: file.content for file in judged(text="modules: [nf-conntrack]\n").files}
    assert kernel.MODULES_PATH < kernel.SYSCTLS_PATH
    lines = files[kernel.MODULES_PATH].splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["overlay", "br_netfilter", "nf_conntrack"]
    sysctls = files[kernel.SYSCTLS_PATH].splitlines()[1:]
    assert all(line.startswith("# ") for line in sysctls[::2]) and all(" = " in line for line in sysctls[1::2])


def test_kubelet_s_own_demands_are_met() -> None:
    """protectKernelDefaults: pkg/util/sysctl/sysctl.go of Kubernetes 1.36."""
    for key, value in {
        "vm.overcommit_memory": "1",
        "vm.panic_on_oom": "0",
        "kernel.panic": "10",
        "kernel.panic_on_oops": "1",
        "kernel.keys.root_maxkeys": "1000000",
        "kernel.keys.root_maxbytes": "25000000",
    }.items():
        assert SYSCTLS[key] == value


def test_the_configuration_s_sysctl_replaces_ours_however_it_is_spelled() -> None:
    out = kernel.sysctls({"net/ipv4/ip_forward": "0", "net/ipv4/conf/eth0.1/rp_filter": "0"})
    assert out["net.ipv4.ip_forward"][0] == "0" and len(out) == len(kernel.SYSCTLS) + 1
    assert kernel.sysctl_path("net.ipv4.conf.eth0/1.rp_filter") == "net/ipv4/conf/eth0.1/rp_filter"
    assert kernel.sysctl_path("net.bridge.bridge-nf-call-iptables") == "net/bridge/bridge-nf-call-iptables"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modules": frozenset({"overlay"})}, ["load the kernel module br_netfilter"]),
        ({"sysctls": {**SYSCTLS, "kernel.panic": "0"}}, ["set kernel.panic = 10"]),
        ({"swap": ("/dev/sda2",)}, ["turn swap off (/dev/sda2)"]),
        (
            {"hostname": "localhost"},
            ["write /etc/hostname (16 bytes)", f"name this machine {name_of(MACHINE.machine_id)}"],
        ),
        ({"cloud_hostname": "ip-10-1-2-3"}, ["write /etc/hostname (12 bytes)", "name this machine ip-10-1-2-3"]),
    ],
)
def test_a_running_machine_is_corrected(changes: dict[str, object], expected: list[str]) -> None:
    machine = running(**changes)
    before = tree(judged())
    out = judged(machine)
    node = replace(before, files={**dict.fromkeys(out.paths, Absent()), **before.files})  # type: ignore[dict-item]
    assert described(plan(machine, node=node)) == expected


def test_a_module_waits_for_the_program_that_loads_it() -> None:
    machine = running(modules=frozenset({"overlay"}))
    packages = {name: version for name, version in PACKAGES.items() if name != "kmod"}
    found = plan(replace(machine, packages=packages))
    assert described(found) == ["install kmod (apt)"]
    assert [one.subject for one in found.waiting] == ["br_netfilter"]
    assert not plan(replace(MACHINE, packages=packages)).steps, "and isn't needed where nothing is to be loaded"


def test_a_sysctl_waits_for_its_module() -> None:
    missing = {key: value for key, value in SYSCTLS.items() if not key.startswith("net.bridge.")}
    found = plan(running(modules=frozenset({"overlay"}), sysctls=missing))
    assert described(found) == ["load the kernel module br_netfilter"]
    assert [one.subject for one in found.waiting] == [
        "net.bridge.bridge-nf-call-iptables",
        "net.bridge.bridge-nf-call-ip6tables",
    ]


def test_what_a_container_can_t_change_is_told_and_doesn_t_stop_it() -> None:
    found = plan(
        running(can_load=False, modules=frozenset(), sysctls={"kernel.panic": "0"}, fixed=frozenset({"kernel.panic"}))
    )
    assert not found.steps and found.converged
    assert [(one.subject, one.rule) for one in found.refusals] == [("kernel.panic", "sysctl/read-only")]
    assert any("br_netfilter" in hint for hint in found.hints)


@pytest.mark.parametrize(
    ("setting", "changes", "expected"),
    [
        ("keep", {"hostname": "localhost"}, None),
        ("auto", {"hostname": "rack-1-7"}, None),
        ("auto", {"hostname": "rack-1-7", "cloud_hostname": "ip-10-0-0-1"}, "ip-10-0-0-1"),
        ("auto", {"hostname": "Debian", "cloud_hostname": "a b"}, name_of(MACHINE.machine_id)),
        # NoCloud's metadata without a name: cloud-init says what the kernel says.
        ("auto", {"hostname": "localhost", "cloud_hostname": "localhost"}, name_of(MACHINE.machine_id)),
        ("auto", {"hostname": "debian", "cloud_hostname": "Debian"}, name_of(MACHINE.machine_id)),
        ("node-b", {"hostname": "rack-1-7", "cloud_hostname": "ip-10-0-0-1"}, "node-b"),
    ],
)
def test_names(setting: str, changes: dict[str, object], expected: str | None) -> None:
    found = wanted_hostname(setting, running(**changes))
    assert (found[0] if found else None) == expected


def test_names_by_machine_id_differ_and_don_t_show_it() -> None:
    assert name_of("a" * 32) != name_of("b" * 32)
    assert name_of("a" * 32) == name_of("a" * 32) and "aaaa" not in name_of("a" * 32)


AGENT = "protokube: {kubeletUnit: virtual-kubelet.service}\n"


def test_the_agent_s_unit_is_written_in_kubelet_s_place_and_left_for_protokube_to_start() -> None:
    agent = "/etc/systemd/system/virtual-kubelet.service"
    machine = replace(MACHINE, programs={**MACHINE.programs, "virtual-kubelet": "/usr/local/bin/virtual-kubelet"})
    out = judged(machine, AGENT)
    files = {file.path: file.content for file in out.files}
    assert "ExecStart=/usr/local/bin/virtual-kubelet --standalone" in files[agent]
    assert "/etc/systemd/system/kubelet.service" not in files
    assert {one.unit for one in out.disabled} == {"kubelet.service", "virtual-kubelet.service"}
    assert not [one for one in out.enabled if "kubelet" in one.unit]
    assert not [one for one in out.services if "kubelet" in one.unit]
    assert plan(machine, AGENT).converged
    enabled = f"{agent.rpartition('/')[0]}/multi-user.target.wants/virtual-kubelet.service"
    node = tree(out)
    assert isinstance(node.files, dict)
    node = replace(node, files={**node.files, enabled: Link(agent, 0)})
    assert any("virtual-kubelet.service" in one and "disable" in one for one in described(plan(machine, AGENT, node)))


def test_without_the_agent_s_program_nodeup_says_how_to_get_it() -> None:
    machine = replace(MACHINE, programs={name: path for name, path in MACHINE.programs.items() if name != "kubelet"})
    out = judged(machine, AGENT)
    (refusal,) = out.findings.refusals
    assert refusal.rule == "unit/program-missing" and "extra `agent`" in refusal.evidence
    assert not out.findings.hints


def test_swap_stays_where_no_kubelet_runs() -> None:
    assert not judged(running(swap=("/swapfile",)), AGENT).links


def test_swap_stays_where_kubelet_may_have_it() -> None:
    text = "protokube: {kubelet: {failSwapOn: false}}\n"
    out = judged(running(swap=("/swapfile",)), text)
    assert out.swap_off is None and not out.links
    assert not plan(running(swap=("/swapfile",)), text).steps


def test_a_group_of_unknown_machines_does_not_decide_on_swap() -> None:
    out = judged(text="protokube: {instanceGroups: {a: {kubelet: {failSwapOn: false}}}}\n")
    assert out.swap_off is not None and "though instanceGroups.a sets failSwapOn" in out.findings.hints[0]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("protokube: {masterKubelet: {failSwapOn: false}}\n", False),
        ("role: control-plane\nprotokube: {masterKubelet: {failSwapOn: false}}\n", True),
        ("protokube: {kubelet: {failSwapOn: false}, masterKubelet: {failSwapOn: true}}\n", True),
        ("hostname: a\nprotokube: {nodes: {a: {kubelet: {failSwapOn: false}}}}\n", True),
        ("hostname: b\nprotokube: {nodes: {a: {kubelet: {failSwapOn: false}}}}\n", False),
        (
            "role: control-plane\nprotokube: {kubelet: {failSwapOn: false}, masterKubelet: {failSwapOn: true}}\n",
            False,
        ),
    ],
)
def test_the_last_layer_of_this_role_decides_on_swap(text: str, stays: bool) -> None:
    assert (judged(running(swap=("/swapfile",)), text).swap_off is None) is stays


@pytest.mark.parametrize("path", ["/usr/bin/protokube", "/etc/systemd/system/protokube.service"])
def test_a_new_program_or_unit_file_restarts_its_service(path: str) -> None:
    node = tree(judged()).with_file(path, File(None, 0o755, int(2e12)))
    if path in {file.path for file in judged().files}:
        text = next(file.content for file in judged().files if file.path == path)
        node = node.with_file(path, File(text, 0o644, int(2e12)))
    assert described(plan(node=node)) == ["restart protokube.service"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("containerd-2.1.4-linux-amd64.tar.gz", "for containerd 2.1.4"),
        ("containerd-static-1.7.20.tgz", "for containerd 1.7.20"),
        ("containerd.tar.gz", None),
    ],
)
def test_an_image_s_containerd_is_known_by_its_archive_s_name(name: str, written: str | None) -> None:
    machine = replace(MACHINE, running=None, containerd=None, programs={}, packages={"dpkg": "1"})
    text = f"assets: [{{archive: 'https://a/{name}', sha256: {'a' * 64}, extract: {{'bin/*': /usr/local/bin/}}}}]\n"
    out = judged(machine, text)
    reasons = {file.path: file.reason for file in out.files}
    assert reasons.get("/etc/containerd/config.toml") == written and "containerd" not in out.packages


def test_nothing_starts_while_anything_is_to_be_done() -> None:
    out = judged()
    node = tree(out).with_file("/etc/protokube/config.yaml", Absent())
    node = node.with_unit("protokube.service", UnitState("loaded", "inactive", "dead"))
    assert described(plan(node=node)) == ["write /etc/protokube/config.yaml (14 bytes)"]


def test_a_stopped_unit_starts_and_one_whose_file_is_newer_restarts() -> None:
    out = judged()
    node = tree(out).with_unit("containerd.service", UnitState("loaded", "inactive", "dead"))
    assert described(plan(node=node)) == ["start containerd.service"]
    assert sorted(described(plan(node=tree(out, written=2000.0)))) == [
        "restart containerd.service",
        "restart protokube.service",
    ]


def test_a_unit_that_systemd_starts_next_is_not_started_again() -> None:
    """At a boot containerd and protokube come after nodeup's own unit."""
    node = tree(judged()).with_unit("containerd.service", UnitState("loaded", "inactive", "dead"))
    found = plan(node=replace(node, queued=frozenset({"containerd.service"})))
    assert not found.steps and found.converged and "containerd.service" in found.hints[0]


def test_a_changed_unit_file_is_read_again_first() -> None:
    node = replace(tree(judged(), written=2000.0), stale=frozenset({"protokube.service"}))
    assert described(plan(node=node)) == ["let systemd read its unit files again"]


def test_kubelet_is_neither_started_nor_enabled_and_loses_a_package_s_enablement() -> None:
    out = judged()
    path = "/etc/systemd/system/multi-user.target.wants/kubelet.service"
    assert "kubelet.service" not in [service.unit for service in out.services]
    assert "kubelet.service" not in [each.unit for each in out.enabled]
    found = plan(node=tree(out).with_file(path, Link("/usr/lib/systemd/system/kubelet.service", 0)))
    assert described(found) == [f"disable kubelet.service ({path})"]


def test_a_certainly_wrong_clock_holds_protokube_back_and_nothing_else() -> None:
    machine = running(clock=clock.BUILT - 86400)
    stopped = UnitState("loaded", "inactive", "dead")
    out = judged(machine)
    node = tree(out).with_unit("protokube.service", stopped).with_unit("containerd.service", stopped)
    found = plan(machine, node=node)
    assert described(found) == ["start containerd.service"]
    assert [one.subject for one in found.waiting] == ["protokube.service"]
    assert not found.converged and found.refusals[0].rule == "time/unsynchronised"


def test_an_unsynchronised_clock_is_told_and_waited_for_at_boot_with_a_limit() -> None:
    found = plan(running(synchronised=False))
    assert found.converged and [one.rule for one in found.refusals] == ["time/unsynchronised"]
    files = {file.path: file.content for file in judged().files}
    limit = files["/etc/systemd/system/systemd-time-wait-sync.service.d/10-nodeup.conf"]
    assert limit == f"[Service]\nTimeoutStartSec={clock.LIMIT}\n"


def test_packages_that_are_missing_are_installed_together() -> None:
    machine = replace(MACHINE, packages={"dpkg": "1"}, programs={}, plugins=(), containerd=None)
    found = plan(machine, "packages: [jq]\n")
    assert described(found)[0] == "install containerd, containernetworking-plugins, jq, systemd-timesyncd (apt)"


@pytest.mark.parametrize(
    "listed", ["chrony", "containerd.io", "containernetworking-plugins=1.1.1", "containerd=1.7.2", "kmod:amd64"]
)
def test_what_the_operator_lists_is_the_one_package_for_its_need(listed: str) -> None:
    machine = replace(MACHINE, packages={"dpkg": "1"}, programs={}, plugins=(), containerd=None)
    found = judged(machine.with_running(modules=frozenset()), f"packages: ['{listed}']\n").packages
    rivals = {"chrony": "systemd-timesyncd", "containerd.io": "containerd"}
    plain = listed.partition("=")[0].partition(":")[0]
    assert listed in found and rivals.get(plain, plain) not in found.keys() - {listed}
    assert len(found) == 4


def test_debian_s_plugins_are_linked_where_an_older_containerd_looks() -> None:
    machine = replace(MACHINE, debian_plugins=("bridge", "loopback"))
    links = {link.path: link.target for link in judged(machine).links if "cni" in link.path}
    assert links == {f"/opt/cni/bin/{name}": f"/usr/lib/cni/{name}" for name in ("bridge", "loopback")}
    node = tree(judged(machine)).with_file("/opt/cni/bin/loopback", File(None, 0o755, 0))
    assert not plan(machine, node=node.with_file("/opt/cni/bin/bridge", Link("/elsewhere", 0))).steps
    (step,) = plan(machine, node=node.with_file("/opt/cni/bin/bridge", Absent())).steps
    assert step.action.describe() == "link /opt/cni/bin/bridge → /usr/lib/cni/bridge"
    assert not [one for one in judged(replace(machine, containerd="2.1.4")).links if "cni" in one.path]
    cni = f"assets: [{{archive: 'https://a/cni.tgz', sha256: {'a' * 64}, extract: {{'*': /opt/cni/bin/}}}}]\n"
    assert not [one for one in judged(machine, cni).links if "cni" in one.path]


def test_a_system_without_dpkg_is_told_so() -> None:
    found = plan(replace(MACHINE, packages={}, containerd="2.1.4"))
    assert [one.rule for one in found.refusals] == ["packages/no-dpkg"] and not found.converged


@pytest.mark.parametrize("name", ["chrony", "ntpsec", "openntpd"])
def test_another_time_service_is_good_enough(name: str) -> None:
    packages = {**PACKAGES, name: "1"}
    del packages["systemd-timesyncd"]
    assert "systemd-timesyncd" not in judged(replace(MACHINE, packages=packages)).packages


def test_interrupted_dpkg_is_finished_first() -> None:
    assert described(plan(replace(MACHINE, interrupted=True))) == ["finish dpkg's interrupted work"]


def test_a_masked_unit_stays_masked() -> None:
    out = judged()
    node = tree(out).with_file("/etc/systemd/system/protokube.service", Link("/dev/null", 0))
    assert "unit/masked" in [one.rule for one in plan(node=node).refusals]


def test_a_unit_starts_its_program_where_that_is() -> None:
    text = with_program(UNITS["kubelet.service"], {"kubelet": "/usr/local/bin/kubelet"})
    assert "\nExecStart=/usr/local/bin/kubelet $DAEMON_ARGS\n" in text
    assert with_program(UNITS["kubelet.service"], {}) == UNITS["kubelet.service"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[Service]\nExecStart=/bin/x\n", True),
        ("[Service]\nType=oneshot\n", False),
        ("[Service]\nType=oneshot\nRemainAfterExit=yes\n", True),
        ("[Timer]\nOnBootSec=1\n", True),
    ],
)
def test_which_units_stay_active(content: str, expected: bool) -> None:
    assert stays_active(content) is expected


def test_files_that_nodeup_writes_itself_are_not_the_configuration_s() -> None:
    text = "files: [{path: /etc/crictl.yaml, content: x}]\nunits: [{name: nodeup.service, content: x}]\n"
    assert [one.rule for one in judged(text=text).findings.refusals] == ["files/ours", "files/ours"]
    crictl = [file.content for file in judged(text=text).files if file.path == "/etc/crictl.yaml"]
    assert len(crictl) == 1 and crictl != ["x"]
