"""Bad input, each with a clear error that names place, value and expectation, the right exit code and no effect."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.trial import CHECKOUT, CLUSTER, TrialNode, both, tags, volume, write_inventory

pytestmark = pytest.mark.root

CONFIG = "a/root/etc/protokube/config.yaml"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, *both())) as node:
        yield node


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every inode below a folder with its change time, which any write to it moves."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            status = os.lstat(path)
            found[path] = (status.st_ino, status.st_ctime_ns)
    return found


def put(tmp_path: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def assert_refused(
    node: TrialNode,
    tmp_path: Path,
    code: int,
    *said: str,
    options: tuple[str, ...] = ("--once",),
    around: tuple[str, ...] = (),
) -> str:
    """The program ends with this code, says all of this on stderr, one fault a line, and leaves no trace."""
    before = state_of(tmp_path)
    done = node.run(*around, *node.arguments(*options))
    assert done.returncode == code, done.stdout + done.stderr
    missing = [words for words in said if words not in done.stderr]
    assert not missing, f"not said: {missing}\nsaid: {done.stderr}"
    assert "Traceback" not in done.stderr
    assert all(line.startswith("protokube: ") for line in done.stderr.splitlines()), done.stderr
    assert done.stdout == ""
    assert state_of(tmp_path) == before
    return done.stderr


CONFIGURATIONS: Mapping[str, tuple[str | bytes, tuple[str, ...]]] = {
    "malformed": ("master: true\nkubelet: {maxPods: [1\n", ("config.yaml:3: not valid YAML",)),
    "a tab": ("master: true\n\tdns: hosts\n", ("config.yaml:2: not valid YAML",)),
    "not UTF-8": (b"master: \xff\n", ("config.yaml: can't be read", "expected a YAML file")),
    "a list": ("- master\n", ("config.yaml:1: a list where a mapping was expected",)),
    "a key given twice": (
        "interval: 1\ninterval: 2\n",
        ("config.yaml:2 interval: the key is there already",),
    ),
    "unknown key": (
        "intervall: 5\n",
        (":1 intervall: unknown key 'intervall': did you mean 'interval'?",),
    ),
    "kebab-case": ("kubelet-unit: none\n", ("unknown key 'kubelet-unit': did you mean 'kubeletUnit'?",)),
    "a text for a number": ("interval: often\n", ("config.yaml:1 interval: 'often' where a number of seconds",)),
    "a negative number": ("interval: -1\n", ("config.yaml:1 interval: -1 where a number of seconds",)),
    "a number for a switch": ("master: 1\n", ("config.yaml:1 master: 1 where true or false was expected",)),
    "a text for a switch": ("dnsAdopt: 'yes'\n", ("config.yaml:1 dnsAdopt: 'yes' where true or false",)),
    "a number for a text": ("clusterId: 5\n", ("config.yaml:1 clusterId: 5 where a text was expected",)),
    "another choice": ("dns: bind\n", ("config.yaml:1 dns: 'bind' where hosts, route53",)),
    "a label that is no text": ("nodeLabels: {rack: 1}\n", ("config.yaml:1 nodeLabels.rack: 1 where a string",)),
    "a version": ("kubernetesVersion: latest\n", ("config.yaml:1 kubernetesVersion", "latest")),
    "a folder that leaves": ("manifestDir: /etc/../../x\n", ("'/etc/../../x' where an absolute path without ..",)),
    "kubelet's unknown field": (
        "kubelet:\n  maxPod: 5\n",
        ("config.yaml: kubelet.maxPod", "maxPods"),
    ),
    "kubelet's wrong type": ("masterKubelet: {maxPods: many}\n", ("config.yaml: masterKubelet.maxPods", "many")),
    "a flag that protokube owns": (
        "kubelet: {staticPodPath: /tmp}\n",
        ("config.yaml: kubelet.staticPodPath",),
    ),
    "a group's unknown section": ("instanceGroups: {masters: {kublet: {}}}\n", ("did you mean 'kubelet'?",)),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configuration(node: TrialNode, tmp_path: Path, kind: str) -> None:
    text, said = CONFIGURATIONS[kind]
    put(tmp_path, {CONFIG: text})
    assert_refused(node, tmp_path, 78, *said)


def test_a_unit_that_is_none(node: TrialNode, tmp_path: Path) -> None:
    said = "--kubelet-unit: 'kubelet' where a unit such as kubelet.service"
    assert_refused(node, tmp_path, 78, said, options=("--once", "--kubelet-unit", "kubelet"))


def test_a_configuration_that_is_not_there(node: TrialNode, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    assert_refused(node, tmp_path, 78, f"{missing}: can't be read: No such file", options=("--config", missing))
    assert_refused(node, tmp_path, 78, "Is a directory", options=("--config", str(tmp_path)))


def inventory(**keys: object) -> str:
    return json.dumps({"cluster": CLUSTER, "volumes": both(), **keys}, indent=1)


def one_volume(**keys: object) -> str:
    return inventory(volumes=[{**volume("main-a", "main", "a/a"), **keys}])


INVENTORIES: Mapping[str, tuple[str | bytes, tuple[str, ...]]] = {
    "malformed": ("cluster: x\nvolumes: {\n", ("inventory.yaml:3: not valid YAML",)),
    "empty": ("", ("inventory.yaml:1: nothing where a mapping was expected",)),
    "not UTF-8": (b"cluster: \xff\n", ("inventory.yaml: the inventory is not UTF-8",)),
    "unknown key": (inventory(volume=[]), ("unknown key 'volume': did you mean 'volumes'?",)),
    "no cluster": ("volumes: []\n", ("inventory.yaml:1 cluster: is required",)),
    "a cluster that is no name": (inventory(cluster="a/b"), (":2 cluster: 'a/b' where a DNS name in lower case",)),
    "duplicate volume ids": (
        inventory(volumes=[volume("main-a", "main", "a/a"), {**volume("main-a", "events", "a/a"), "file": "other"}]),
        ("volumes[1].id: 'main-a' is there already, in line",),
    ),
    "one file for two": (
        inventory(volumes=[{**one, "file": "x.img"} for one in both()]),
        ("volumes[1]: its disk", "x.img is the disk of 'main-a' already"),
    ),
    "an id that leaves its folder": (one_volume(id="../x"), ("volumes[0].id: '../x' where an id of letters",)),
    "an absolute id": (one_volume(id="/etc"), ("volumes[0].id: '/etc' where an id of letters",)),
    "an id of two dots": (one_volume(id=".."), ("volumes[0].id: '..' where an id of letters",)),
    "an id that is a number": (one_volume(id=5), ("volumes[0].id: 5 where a string (put it in quotes)",)),
    "a node's name": (inventory(nodes=[{"name": "../a"}]), ("nodes[0].name: '../a' where a host name",)),
    "an address": (
        inventory(nodes=[{"name": "node-a", "internalAddress": "10.1.2"}]),
        ("nodes[0].internalAddress: '10.1.2' where an IP address was expected",),
    ),
    "a size without a unit": (
        one_volume(size=1024),
        ("volumes[0].size: 1024 where a number of bytes",),
    ),
    "a size that is too small": (one_volume(size="1MiB"), ("volumes[0].size: '1MiB' where 16MiB at least",)),
    "neither file nor device": (one_volume(file=None), ("volumes[0]", "file")),
    "both file and device": (one_volume(device="/dev/sda"), ("exactly one of 'file' and 'device'",)),
    "a tag that is a number": (
        one_volume(tags={**tags("main", "a/a"), "k8s.io/role/master": 1}),
        ("volumes[0].tags.k8s.io/role/master: 1 where a string (put it in quotes)",),
    ),
    "a node that is not in it": (
        inventory(nodes=[{"name": "node-b"}]),
        ("no node is named 'node-a', known are node-b: see --node",),
    ),
}


@pytest.mark.parametrize("kind", INVENTORIES)
def test_inventory(node: TrialNode, tmp_path: Path, kind: str) -> None:
    text, said = INVENTORIES[kind]
    put(tmp_path, {"inventory.yaml": text})
    assert_refused(node, tmp_path, 78, *said)


def test_an_inventory_that_is_not_there(node: TrialNode, tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").unlink()
    for mode in ("--once", "--dry-run"):
        assert_refused(
            node,
            tmp_path,
            78,
            f"{tmp_path}/inventory.yaml: the inventory can't be read: No such file",
            options=(mode,),
        )


def test_a_bad_inventory_stops_the_daemon_too(node: TrialNode, tmp_path: Path) -> None:
    put(tmp_path, {"inventory.yaml": inventory(volume=[])})
    assert_refused(node, tmp_path, 78, "unknown key 'volume'", options=())


BAD_TAGS = {
    "a": "there is no slash",
    "/": "a member's name is empty",
    "a/a,,b": "a member's name is empty",
    "a/a,a": "member 'a' is listed twice",
    "a/a/a": "more than one slash",
    "b/a": "'b' is not among the members",
    "A/A": "'A' is no DNS label",
    "../x/../x": "more than one slash",
}


def test_a_bad_etcd_tag_is_a_refusal(node: TrialNode, tmp_path: Path) -> None:
    """It is one volume's trouble: that one is reported and never attached, the other still comes up."""
    bad = [volume(f"main-{number}", "main", spec) for number, spec in enumerate(BAD_TAGS)]
    write_inventory(tmp_path, *bad, volume("events-a", "events", "a/a"))

    report = node.report()

    assert report["exit"] == 1
    refused = {one["subject"]: (one["rule"], one["evidence"]) for one in report["refusals"]}
    for number, (spec, why) in enumerate(BAD_TAGS.items()):
        rule, evidence = refused[f"main-{number}"]
        assert rule == "volume/bad-etcd-tag"
        assert f"tag k8s.io/etcd/main={spec!r}" in evidence and why in evidence
        assert "expected <me>/<member>,<member>,…" in evidence
    assert sorted(path.name for path in (tmp_path / "volumes").glob("*.img")) == ["events-a.img"]
    assert os.listdir(node.root / "mnt") == ["master-events-a"]
    assert os.listdir(node.root / "etc/kubernetes/manifests") == ["etcd-events.manifest"]


TEMPLATES: Mapping[str, tuple[str, str, str, str]] = {
    "an unknown placeholder": ("manifest.yaml", "${image}", "${imagine}", "unknown placeholder ${imagine}, expected"),
    "an unused placeholder": ("manifest.yaml", "${image}", "etcd:3", "the placeholder ${image} is not used"),
    "an unknown condition": ("manifest.yaml", "$if: livez", "$if: lives", "unknown condition 'lives', expected"),
    "no pod": ("manifest.yaml", "kind: Pod", "kind: Job", "expected a v1 Pod"),
    "malformed": ("manifest.yaml", "spec:", "spec: {", "manifest.yaml:24: no YAML"),
    "an unknown key": ("events.yaml", "peerPort", "peersPort", "unknown key 'peersPort', expected"),
    "a port": ("main.yaml", "2380", "99999", "peerPort is 99999, expected a port from 1 to 65535"),
    "a folder that leaves": (
        "main.yaml",
        "var/etcd/data",
        "../data",
        "dataDir is '../data', expected a relative path",
    ),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_template(node: TrialNode, tmp_path: Path, kind: str) -> None:
    name, old, new, said = TEMPLATES[kind]
    folder = tmp_path / "templates"
    shutil.copytree(CHECKOUT / "templates/etcd", folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    options = ("--once", "--template-dir", str(folder))
    assert_refused(node, tmp_path, 78, f"{folder}/{name}", said, options=options)


def test_templates_that_are_not_there(node: TrialNode, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    options = ("--once", "--template-dir", str(folder))
    assert_refused(node, tmp_path, 78, f"{folder}: the templates can't be read", options=options)
    folder.mkdir()
    missing = [f"{folder}/{name}.yaml: the template is missing" for name in ("manifest", "main", "events")]
    assert_refused(node, tmp_path, 78, *missing, options=options)


def test_no_root(node: TrialNode, tmp_path: Path) -> None:
    nobody = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    for mode in ("--once", "--dry-run"):
        assert_refused(node, tmp_path, 77, "needs root", "try sudo", options=(mode,), around=nobody)


def test_a_manifest_folder_that_is_a_file(node: TrialNode, tmp_path: Path) -> None:
    put(tmp_path, {"a/root/etc/kubernetes/manifests": "not a folder"})
    place = node.root / "etc/kubernetes/manifests"
    assert_refused(node, tmp_path, 78, f"{place}: a file where a directory was expected, for the manifest folder")
    put(tmp_path, {"a/root/srv": "not a folder"})
    options = ("--once", "--manifest-dir", "/srv/manifests")
    assert_refused(node, tmp_path, 78, f"{node.root}/srv: a file where a directory was expected", options=options)


@pytest.mark.parametrize(
    ("tool", "package"),
    [("mkfs.ext4", "e2fsprogs"), ("e2fsck", "e2fsprogs"), ("resize2fs", "e2fsprogs"), ("wipefs", "util-linux")],
)
def test_a_missing_tool(node: TrialNode, tmp_path: Path, tool: str, package: str) -> None:
    program = shutil.which(tool)
    assert program is not None
    hidden = node.run("mount", "--bind", "/dev/null", os.path.realpath(program))
    assert hidden.returncode == 0, hidden.stderr
    assert_refused(node, tmp_path, 78, f"{tool}: the tool is missing; install the package {package}")


def test_several_faults_are_told_at_once(node: TrialNode, tmp_path: Path) -> None:
    """What is wrong in the environment, the file, the templates, the manifest folder and the inventory: all of it."""
    templates = tmp_path / "templates"
    shutil.copytree(CHECKOUT / "templates/etcd", templates)
    (templates / "main.yaml").unlink()
    put(
        tmp_path,
        {
            CONFIG: "intervall: 5\nnoFormat: 7\nkubelet: {maxPods: many}\nnodeLabels: {a: 1}\n",
            "inventory.yaml": inventory(zone=5, nodes=[{"name": "?"}]),
            "a/root/etc/kubernetes/manifests": "not a folder",
        },
    )
    variables = ("env", "PROTOKUBE_TIMEOUT=soon")
    said = assert_refused(
        node,
        tmp_path,
        78,
        "environment variable PROTOKUBE_TIMEOUT: 'soon'",
        "config.yaml:1 intervall",
        "config.yaml:2 noFormat: 7",
        "kubelet.maxPods",
        "nodeLabels.a: 1",
        "templates/main.yaml: the template is missing",
        "etc/kubernetes/manifests: a file",
        "zone: 5 where a string",
        "nodes[0].name: '?'",
        options=("--once", "--template-dir", str(templates)),
        around=variables,
    )
    assert len(said.splitlines()) == 9, said


def test_a_name_server_and_its_key(node: TrialNode, tmp_path: Path) -> None:
    """They are read with the configuration, so their faults stand beside its own."""
    put(tmp_path, {CONFIG: "intervall: 5\n", "k": 'key "a" { algorithm hmac-md5; secret "AAAA"; };'})
    options: tuple[str, ...] = ("--once", "--dns", "rfc2136")
    assert_refused(node, tmp_path, 78, "intervall", "--dns rfc2136: needs --dns-server HOST[:PORT]", options=options)
    options = (*options, "--dns-server", "ns:dns", "--dns-tsig-keyfile", str(tmp_path / "k"))
    assert_refused(node, tmp_path, 78, "intervall", "--dns-server: 'ns:dns'", "hmac-md5 is too weak", options=options)


USAGE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown option": (("--onec",), ("unrecognized arguments: --onec",)),
    "an option cut short": (("--onc",), ("unrecognized arguments: --onc",)),
    "a word too many": (("now",), ("unrecognized arguments: now",)),
    "an option without its value": (("--etcd-image",), ("--etcd-image: expected one argument",)),
    "a text for a number": (("--interval", "often"), ("--interval: 'often' where a number of seconds",)),
    "a negative number": (("--timeout=-1",), ("--timeout: '-1' where a number of seconds",)),
    "another choice": (("--dns", "bind"), ("--dns: 'bind' where hosts, route53",)),
    "two modes": (("--once", "--dry-run"), ("--once and --dry-run exclude each other",)),
}


@pytest.mark.parametrize("kind", USAGE)
def test_usage(node: TrialNode, tmp_path: Path, kind: str) -> None:
    options, said = USAGE[kind]
    assert_refused(node, tmp_path, 64, *said, "see protokube --help", options=options)


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PROTOKUBE_INTERVAL=often", "'often' where a number of seconds, 0 or more, was expected"),
        ("PROTOKUBE_DNS_ADOPT=perhaps", "'perhaps' where true or false was expected"),
        ("PROTOKUBE_DNS=bind", "'bind' where hosts, route53"),
    ],
)
def test_environment(node: TrialNode, tmp_path: Path, variable: str, said: str) -> None:
    name = variable.partition("=")[0]
    assert_refused(node, tmp_path, 78, f"environment variable {name}: {said}", around=("env", variable))


@pytest.mark.parametrize(
    "options", [("--once", "--cloud", "aws"), ("--cloud", "aws", "--dns", "none"), ("--once", "--dns", "route53")]
)
def test_environment_of_aws(node: TrialNode, tmp_path: Path, options: tuple[str, ...]) -> None:
    bad = ("AWS_ENDPOINT_URL_EC2=10.77.0.1:5000", "AWS_METADATA_SERVICE_TIMEOUT=abc")
    said = (
        "environment variable AWS_ENDPOINT_URL_EC2: '10.77.0.1:5000' where http://HOST[:PORT] or https://HOST[:PORT]",
        "environment variable AWS_METADATA_SERVICE_TIMEOUT: 'abc' where a whole number from 1 was expected",
    )
    assert_refused(node, tmp_path, 78, *said, options=options, around=("env", *bad))


def test_environment_of_aws_concerns_nobody_else(node: TrialNode) -> None:
    done = node.run("env", "AWS_ENDPOINT_URL=x", *node.arguments("--dry-run"))
    assert done.returncode == 0, done.stderr


def test_the_command_line_overrules_a_bad_file_not(node: TrialNode, tmp_path: Path) -> None:
    """A wrong value is wrong even where a better one wins: it would strike when that one is taken away."""
    put(tmp_path, {CONFIG: "interval: often\n"})
    assert_refused(node, tmp_path, 78, "interval: 'often'", options=("--once", "--interval", "5"))


def test_help_and_version_need_nothing(tmp_path: Path) -> None:
    for option, said in (("--help", "--kubelet-gate-timeout"), ("--version", "protokube 0.")):
        argv = ["setpriv", "--reuid", "nobody", "--clear-groups", sys.executable, "-m", "protokube", option]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "") and said in done.stdout
