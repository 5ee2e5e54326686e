"""`--target image` on the tree of a Debian: what it writes, that it ends in one place, and what the check finds."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from nodeup.image_check import builders_resolver, check_image
from nodeup.rounds import dry_run
from nodeup.targets.image import image_tree, leave_no_cache
from protokube.core.node.image import IDENTITY, SECRET, TRACES
from protokube.report.account import Account
from tests.lab.nodeup_tree import PACKAGES, Killed, Kills, debian, image_run, picture, put, source

CONFIG = """
cluster: dev.example.com
role: control-plane
modules: [nf_conntrack]
sysctls: {vm.max_map_count: 1048576}
files: [{path: /etc/motd, content: "a node\\n"}, {path: /usr/local/bin/hello, content: "#!/bin/sh\\n", mode: "0755"}]
units: [{name: extra.service, content: "[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n",
         enabled: true}]
containerd: {registryMirrors: {docker.io: ["https://mirror.example"]}}
protokube: {interval: 30}
"""
WANTS = "etc/systemd/system/multi-user.target.wants"


def steps(account: Account) -> list[str]:
    return [one.step.action.describe() for one in account.steps]


def test_a_debian_becomes_an_image_with_files_and_links_alone(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    before = picture(root)
    done = image_run(source(tmp_path, CONFIG), root)
    assert done.account.converged, done.account.left
    after = picture(root)
    new = {path: state for path, state in after.items() if before.get(path) != state and state[0][0] != "d"}
    assert set(new) == {
        "etc/containerd/certs.d/docker.io/hosts.toml",
        "etc/containerd/config.toml",
        "etc/crictl.yaml",
        "etc/machine-id",
        "etc/modules-load.d/protokube.conf",
        "etc/motd",
        "etc/protokube/config.yaml",
        "etc/protokube/nodeup.yaml",
        "etc/sysctl.d/90-protokube.conf",
        "etc/systemd/system-preset/10-protokube.preset",
        "etc/systemd/system/extra.service",
        "etc/systemd/system/kubelet.service",
        f"{WANTS}/containerd.service",
        f"{WANTS}/extra.service",
        f"{WANTS}/nodeup.service",
        f"{WANTS}/protokube.service",
        f"{WANTS}/ssh-host-keys.service",
        "etc/systemd/system/nodeup.service",
        "etc/systemd/system/protokube.service",
        "etc/systemd/system/ssh-host-keys.service",
        "etc/systemd/system/swap.target",
        "etc/systemd/system/sysinit.target.wants/systemd-time-wait-sync.service",
        "etc/systemd/system/systemd-time-wait-sync.service.d/10-nodeup.conf",
        "opt/cni/bin/loopback",
        "usr/local/bin/hello",
    }
    assert sorted(before.keys() - after.keys()) == [
        "etc/hostname",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        f"{WANTS}/kubelet.service",
        "var/lib/dbus/machine-id",
    ]
    assert after["etc/machine-id"] == ("-r--r--r--", "")
    assert after["etc/protokube/nodeup.yaml"] == ("-rw-------", CONFIG)
    assert after["etc/systemd/system/swap.target"][1] == "../../../dev/null"
    assert after[f"{WANTS}/protokube.service"][1] == "../protokube.service"
    assert after[f"{WANTS}/containerd.service"][1] == "../../../../usr/lib/systemd/system/containerd.service"
    assert "version = 2" in after["etc/containerd/config.toml"][1]
    assert "master: true" in after["etc/protokube/config.yaml"][1]
    assert "interval: 30" in after["etc/protokube/config.yaml"][1]
    assert check_image(root).converged


def test_a_second_run_plans_no_step_and_changes_no_byte(tmp_path: Path) -> None:
    root, given = debian(tmp_path / "root"), source(tmp_path, CONFIG)
    image_run(given, root)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    again = image_run(given, root).account
    assert again.converged and not again.steps
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_dry_run_tells_the_steps_of_the_run_and_changes_nothing(tmp_path: Path) -> None:
    root, given = debian(tmp_path / "root"), source(tmp_path, CONFIG)
    before = picture(root)
    foretold = dry_run(image_tree(given, str(root), None)[0], 0.0).account
    assert picture(root) == before
    assert steps(foretold) == steps(image_run(given, root).account)


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_effect_it_ends_in_the_same_place(tmp_path: Path, after: bool) -> None:
    given = source(tmp_path, CONFIG)
    whole = debian(tmp_path / "whole")
    count = len(image_run(given, whole).account.steps)
    assert count > 20
    for at in range(count):
        root = debian(tmp_path / f"root-{at}")
        with pytest.raises(Killed):
            image_run(given, root, Kills(at, after=after))
        assert image_run(given, root).account.converged
        assert picture(root) == picture(whole), at


def test_the_tree_is_judged_by_itself_and_not_by_the_machine_that_builds_it(tmp_path: Path) -> None:
    """Another architecture, fewer packages: nothing comes from here."""
    root = debian(tmp_path / "root", {"dpkg": "1.22"})
    (root / "usr/bin/containerd").unlink()
    (root / "usr/lib/cni/loopback").unlink()
    for name in ("protokube", "kubelet"):
        (root / f"usr/bin/{name}").unlink()
    run = image_run(source(tmp_path, "cluster: dev.example.com\n"), root)
    refused = {one.rule: one.evidence for one in run.account.left.refusals}
    assert "containerd, containernetworking-plugins, systemd-timesyncd" in refused["image/packages"]
    assert "protokube is not installed" in refused["unit/program-missing"]
    assert not (root / WANTS / "protokube.service").is_symlink()
    observer, _ = image_tree(source(tmp_path, "cluster: dev.example.com\n"), str(root), None)
    machine = observer.look().facts.machine
    assert (machine.architecture, machine.running, machine.machine_id) == ("arm64", None, "")
    assert machine.packages == {"dpkg": "1.22"}


def test_an_image_has_no_name(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    account = image_run(source(tmp_path, f"{CONFIG}hostname: node-a\n"), root).account
    assert [(one.subject, one.rule) for one in account.left.refusals] == [("hostname", IDENTITY)]
    assert not (root / "etc/hostname").exists()


def test_units_start_programs_where_they_are(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/bin/protokube").rename(root / "usr/local/bin/protokube")
    asset = "assets: [{path: /opt/kubelet, sha256: " + "a" * 64 + ", urls: ['http://127.0.0.1:1/kubelet']}]\n"
    run = image_run(source(tmp_path, f"cluster: dev.example.com\n{asset}"), root)
    assert [action.kind for action, _ in run.errors] == ["fetch-asset"]
    folder = root / "etc/systemd/system"
    assert "\nExecStart=/usr/local/bin/protokube\n" in (folder / "protokube.service").read_text()
    assert "\nExecStart=/opt/kubelet $DAEMON_ARGS\n" in (folder / "kubelet.service").read_text()
    assert (
        "\nExecStart=/usr/bin/nodeup --config /etc/protokube/nodeup.yaml\n" in (folder / "nodeup.service").read_text()
    )


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    put(root, "etc/protokube/.config.yaml.protokube-new", "half")
    assert image_run(source(tmp_path, CONFIG), root).account.converged
    assert not list(root.rglob("*.protokube-new"))


def test_a_directory_in_the_way_stops_that_file_alone(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    (root / "etc/motd").mkdir()
    account = image_run(source(tmp_path, CONFIG), root).account
    assert [one.step.action.subject for one in account.failed] == ["/etc/motd"]
    assert "is a directory, where a regular file was expected" in str(account.failed[0].error)
    assert (root / WANTS / "protokube.service").is_symlink()


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.pattern)
def test_the_check_finds_every_trace_of_a_machine(tmp_path: Path, trace: object) -> None:
    pattern = getattr(trace, "pattern")  # noqa: B009 - a parameter's type
    root = tmp_path / "root"
    put(root, pattern.replace("*", "x"), "something\n")
    found = check_image(root).refusals
    assert [(one.subject, one.rule) for one in found] == [(f"/{pattern.replace('*', 'x')}", getattr(trace, "rule"))]  # noqa: B009


@pytest.mark.parametrize("path", ["root/.docker/config.json", "var/lib/kubelet/config.json"])
def test_the_check_finds_the_passwords_of_registries(tmp_path: Path, path: str) -> None:
    """Both are where kubelet looks for them: kubernetes.io, "Pull an Image from a Private Registry"."""
    root = tmp_path / "root"
    put(root, path, "{}\n")
    assert [(one.subject, one.rule) for one in check_image(root).refusals] == [(f"/{path}", SECRET)]


def test_the_check_follows_no_directory_out_of_the_tree(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    put(outside, "kubelet.conf", "-----BEGIN EC PRIVATE KEY-----\n")
    put(outside, "manifests/etcd.manifest", "{}")
    (root / "etc/kubernetes").symlink_to(outside)
    assert check_image(root).refusals == []


def test_the_check_finds_keys_and_tokens_by_their_looks(tmp_path: Path) -> None:
    root = tmp_path / "root"
    key = "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n"
    put(root, "etc/ssl/private/snakeoil.key", key)
    put(root, "etc/protokube/nodeup.yaml", "files: [{path: /x, content: abcdef.0123456789abcdef}]\n")
    put(root, "etc/other.conf", "abcdef.0123456789abcdef\n-----BEGIN CERTIFICATE-----\n")
    put(root, "etc/kubernetes/kubelet.yaml", "clusterDomain: cluster.local\n")
    found = {one.subject: (one.rule, one.evidence.split(" is in")[0]) for one in check_image(root).refusals}
    assert found == {
        "/etc/ssl/private/snakeoil.key": (SECRET, "a private key"),
        "/etc/protokube/nodeup.yaml": (SECRET, "a bootstrap token"),
    }


def test_the_check_finds_keys_in_large_files_in_base64_and_wherever_the_configuration_writes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    key = "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n"
    put(root, "etc/protokube/nodeup.yaml", "# comment\n" * 100_000 + key)
    put(root, "etc/kubelet.kubeconfig", f"client-key-data: {base64.b64encode(key.encode()).decode()}\n")
    put(root, "opt/tool/key.pem", key)
    put(root, "etc/certificate", base64.b64encode(key.replace("PRIVATE KEY", "CERTIFICATE").encode()).decode())
    found = [one.subject for one in check_image(root, ["/opt/tool/key.pem", "/opt/absent"]).refusals]
    assert sorted(found) == ["/etc/kubelet.kubeconfig", "/etc/protokube/nodeup.yaml", "/opt/tool/key.pem"]


def test_a_copy_of_the_builder_s_resolver_is_found_and_removed(tmp_path: Path) -> None:
    here = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    assert here.strip(), "this machine has no name servers to copy"
    root = debian(tmp_path / "root")
    put(root, "etc/resolv.conf", here)
    assert ("/etc/resolv.conf", IDENTITY) in [(one.subject, one.rule) for one in check_image(root).refusals]
    assert image_run(source(tmp_path, CONFIG), root).account.converged
    assert check_image(root).converged and not (root / "etc/resolv.conf").exists()
    put(root, "etc/resolv.conf", "nameserver 192.0.2.1\n")
    assert check_image(root).converged


def test_the_machine_that_is_the_image_keeps_its_resolver() -> None:
    assert builders_resolver(Path("/")) is None


def test_what_a_boot_makes_again_goes_when_all_is_fetched(tmp_path: Path) -> None:
    root, content = debian(tmp_path / "root"), b"#!/bin/sh\n"
    missing = f"assets: [{{path: /usr/bin/x, sha256: {hashlib.sha256(content).hexdigest()}, urls: ['file:///{tmp_path}/x']}}]"
    given = source(tmp_path, CONFIG + missing)
    assert not image_run(given, root).account.converged
    assert (root / "etc/hostname").exists()
    (tmp_path / "x").write_bytes(content)
    assert image_run(given, root).account.converged
    assert not (root / "etc/hostname").exists()


def test_the_default_cache_does_not_stay_in_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "root/var/cache/nodeup"
    cache.mkdir(parents=True)
    monkeypatch.setattr("nodeup.targets.image.CACHE", str(cache))
    leave_no_cache(str(tmp_path / "other"), None)
    leave_no_cache(str(tmp_path / "root"), str(cache))
    assert cache.exists()
    leave_no_cache(str(tmp_path / "root"), None)
    assert not cache.exists()


def test_packages_of_the_lab_are_those_that_nothing_is_missing_with(tmp_path: Path) -> None:
    root = debian(tmp_path / "root")
    observer, _ = image_tree(source(tmp_path, CONFIG), str(root), None)
    assert observer.look().facts.machine.packages == PACKAGES
