"""The rendered files through a real systemd: the argv that arrives is the argv that was meant."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.component.model import Layer
from protokube.core.component.schema import flags_of_help
from protokube.core.kubelet.model import Machine
from protokube.core.kubelet.render import KubeletFiles, KubeletInput, render
from protokube.core.kubelet.text import args_file
from tests.lab.kubelet_standin import VERSIONS, help_text, kubelet_script
from tests.lab.systemd_node import SystemdNode

pytestmark = pytest.mark.root

RECORD = "/run/kubelet-argv.jsonl"
UNIT = (Path(__file__).parents[2] / "systemd/kubelet.service").read_text()
UNIT_PATH = "/etc/systemd/system/kubelet.service"
DROP_IN = "/etc/systemd/system/kubelet.service.d/test.conf"

HARD = [
    "--plain=1",
    "--empty=",
    "--space=a b",
    "--spaces=  a   b  ",
    "--double=say \"hi\"",
    "--single=it's",
    "--both='\"'\"",
    "--dollar=$HOME",
    "--braced=${HOME} $$ $",
    "--percent=%h %% %",
    "--backslash=\\",
    "--backslashes=a\\b\\\\c\\",
    "--escapes=\\n\\t\\x41\\101\\u00e4\\s\\\"\\'",
    "--trailing=a\\ ",
    "--tick=`id` $(id)",
    "--tab=a\tb",
    "--line=a\nb",
    "--utf8=ä€😀 あ",
    "--nbsp=a\u00a0b",
    "--shell=;|&<>()*?[]{}~#!^",
    "--hash=# not a comment",
    "--eviction-hard=memory.available<100Mi,nodefs.available<10%",
    "word",
    "",
    "-",
    "last",
]  # fmt: skip

INPUT = KubeletInput(
    version=None,
    layers=(
        Layer("kubelet", {"logLevel": 2, "evictionHard": "memory.available<100Mi", "certDir": "/var/p ki/ä$%\\'\""}),
    ),
    node_labels={"example.com/rack": "r1"},
    node_name="ip-10-0-0-1.ec2.internal",
    node_ips=("10.0.0.1",),
    master=True,
    machine=Machine(8 << 30, 4),
)


def lines(node: SystemdNode) -> list[dict[str, object]]:
    path = node.path(RECORD)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_systemd_splits_the_args_file_into_exactly_the_argv_that_was_meant(tmp_path: Path) -> None:
    recorder = (
        "#!/usr/bin/python3\nimport json, os, sys\n"
        f"open({RECORD!r}, 'w').write(json.dumps({{'argv': sys.argv[1:], 'text': os.environ['DAEMON_ARGS']}}))\n"
    )
    text = args_file(HARD)
    files = {
        "/etc/sysconfig/kubelet": text,
        "/usr/bin/kubelet": recorder,
        UNIT_PATH: UNIT,
        DROP_IN: "[Service]\nType=oneshot\nRestart=no\n",
    }
    with SystemdNode(tmp_path, files=files) as node:
        node.run("systemctl", "start", "kubelet")
        [seen] = lines(node)
        assert seen["argv"] == HARD
        node.path("/etc/sysconfig/kubelet").write_text(args_file([]))
        node.run("systemctl", "start", "kubelet")
        assert lines(node) == [{"argv": [], "text": ""}]
    (tmp_path / "args").write_text(text)
    sourced = ["sh", "-ec", '. "$1"; printf %s "$DAEMON_ARGS"', "sh", str(tmp_path / "args")]
    shell = subprocess.run(sourced, capture_output=True, check=True, timeout=10)
    assert shell.stdout.decode() == seen["text"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_in_starts_with_what_is_rendered_and_dies_of_what_is_not(version: str, tmp_path: Path) -> None:
    given = replace(INPUT, version=version, known_flags=flags_of_help(help_text(version)))
    alone = render(given)
    joined = render(replace(given, kubeconfig_present=True))
    assert isinstance(alone, KubeletFiles)
    assert isinstance(joined, KubeletFiles)
    files = {
        "/etc/sysconfig/kubelet": alone.args_file,
        "/var/lib/kubelet/config.yaml": alone.config_file,
        "/usr/bin/kubelet": kubelet_script(version, RECORD),
        UNIT_PATH: UNIT,
        DROP_IN: "[Service]\nType=notify\nRestart=no\n",
    }
    with SystemdNode(tmp_path, files=files) as node:
        assert node.run("kubelet", "--version").stdout == f"Kubernetes v{version}\n"
        assert flags_of_help(node.run("kubelet", "--help").stdout) == given.known_flags

        started = node.run("systemctl", "start", "kubelet", check=False)
        assert started.returncode == 0, node.journal("kubelet")
        assert lines(node)[-1]["argv"] == list(alone.flags)

        node.path("/var/lib/kubelet/config.yaml").write_text(joined.config_file)
        node.path("/etc/sysconfig/kubelet").write_text(joined.args_file)
        node.path("/var/lib/kubelet/kubeconfig").write_text("")
        node.run("systemctl", "restart", "kubelet")
        assert lines(node)[-1]["argv"] == list(joined.flags)

        node.path("/etc/sysconfig/kubelet").write_text(args_file([*joined.flags, "--gone=1"]))
        assert node.run("systemctl", "restart", "kubelet", check=False).returncode != 0
        assert f"E kubelet {version}: unknown flag: --gone" in node.journal("kubelet")
        assert len(lines(node)) == 2
