"""virtual-kubelet's command line: the original's, today's, ours; and its exit codes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.alone import NotAloneError, alone, kubelet_on
from protokube.agent.cli import main
from protokube.agent.options import read_options, seconds
from protokube.agent.show import pods_text
from protokube.errors import ConfigError
from tests.agent.pods import manifest, wanted
from tests.lab.trial import until

ORIGINAL = (
    "--kubeconfig /x --namespace ns --nodename vk --os Windows --provider memory --provider-config f.toml "
    "--taint a.b/c=d:NoExecute -t --disable-taint true --cluster-domain c --metrics-addr :1 --startup-timeout 1s"
)


def test_every_flag_of_the_original_is_taken() -> None:
    options = read_options(ORIGINAL.split(), {})
    api = options.api
    assert (options.node, api.system, api.namespace, api.kubeconfig) == ("vk", "windows", "ns", "/x")
    assert api.taints == ()


def test_the_environment_says_what_it_said_in_the_original(tmp_path: Path) -> None:
    files = {}
    for name in ("CERT", "KEY", "CA_CERT"):
        (tmp_path / name).touch()
        files[f"APISERVER_{name}_LOCATION"] = str(tmp_path / name)
    taint = {"VKUBELET_TAINT_KEY": "a.b/c", "VKUBELET_TAINT_VALUE": "d", "VKUBELET_TAINT_EFFECT": "NoExecute"}
    others = {"KUBELET_PORT": "10260", "VKUBELET_POD_IP": "10.1.2.3", "KUBECONFIG": "/x"}
    api = read_options(["--provider", "memory"], {**files, **taint, **others}).api
    assert api.taints == ({"key": "a.b/c", "value": "d", "effect": "NoExecute"},)
    assert (api.address, api.kubeconfig) == ("10.1.2.3", "/x")
    kubelet = api.kubelet
    assert (kubelet.host, kubelet.port) == ("", 10260), "who may ask is known, so it listens everywhere"
    assert [kubelet.cert_file, kubelet.key_file, kubelet.client_ca_file] == list(files.values())

    api = read_options(["--provider", "memory"], {}).api
    assert api.taints == ({"key": "virtual-kubelet.io/provider", "value": "memory", "effect": "NoSchedule"},)
    assert (api.kubelet.host, api.kubelet.port, api.namespace, api.system) == ("127.0.0.1", 10250, "", "linux")
    (alone,) = read_options(["--provider", "memory", "--taint", "alone"], taint).api.taints
    assert alone == {"key": "alone", "effect": "NoSchedule"}, "the option wins, and has no value"
    with pytest.raises(ConfigError) as caught:
        wrong = {"KUBELET_PORT": "x", "VKUBELET_POD_IP": "y", "APISERVER_CERT_LOCATION": "/none"}
        read_options(["--provider", "memory"], wrong)
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    ("arguments", "environment", "name"),
    [
        (["--nodename", "a"], {"DEFAULT_NODE_NAME": "b"}, "a"),
        ([], {"DEFAULT_NODE_NAME": "b"}, "b"),
        ([], {}, "virtual-kubelet"),
    ],
)
def test_the_node_s_name(arguments: list[str], environment: dict[str, str], name: str) -> None:
    assert read_options(arguments, environment).node == name


@pytest.mark.parametrize(
    ("text", "expected"), [("1m", 60), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("5", None), ("", None)]
)
def test_durations_are_go_s(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


def test_all_faults_at_once() -> None:
    given = "--full-resync-period x --taint =x --pod-sync-workers 0 --manifest-dir x --state-dir y --manifest-url z"
    with pytest.raises(ConfigError) as caught:
        read_options([*given.split(), "--manifest-url-header", "secret", "--forget-source", "file"], {})
    assert len(caught.value.faults) == 8 and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 64, "--provider: it is missing"),
        (["--provider"], 64, "expected one argument"),
        (["--what"], 64, "unrecognized arguments"),
        (["--provider", "memory"], 78, "--kubeconfig: it is missing"),
        (["--root", "", "--provider", "memory"], 78, "--root: an absolute path was expected, got ''"),
        (["--provider", "memory", "--dry-run"], 78, "--dry-run: it plans files and URLs alone"),
        (["--provider", "none", "--standalone", "--dry-run"], 78, "--provider: one of memory"),
        (["--provider", "no.such:Thing", "--standalone", "--dry-run"], 78, "No module named"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("virtual-kubelet ")
    assert main(["help"]) == 0
    assert "--provider-config" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "etc/kubernetes/manifests"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(json.dumps(manifest("a")))
    own = ["--standalone", "--provider", "memory", "--root", str(tmp_path), "--nodename", "n", "--dry-run"]
    assert main(own) == 0
    assert capsys.readouterr().out == "create default/a-n\n"
    assert main([*own, "-o", "json"]) == 0
    (step,) = json.loads(capsys.readouterr().out)
    assert (step["pod"], step["step"]) == ("default/a-n", "create")
    assert [path.name for path in sorted(tmp_path.rglob("*")) if path.is_file()] == ["a.yaml"]


def test_one_agent_a_directory(tmp_path: Path) -> None:
    with alone(tmp_path, tmp_path / "state"):
        with pytest.raises(NotAloneError, match="runs its pods already"), alone(tmp_path):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("form", ["flag", "file", "unreadable", "another", "none"])
def test_a_kubelet_on_the_same_directory_is_found(tmp_path: Path, form: str) -> None:
    folder, config = tmp_path / "manifests", tmp_path / "config.yaml"
    folder.mkdir()
    config.write_text("a: [" if form == "unreadable" else f"staticPodPath: {folder}\n")
    arguments = {
        "flag": [f"--pod-manifest-path={folder}"],
        "another": ["--pod-manifest-path", str(tmp_path)],
        "none": [],
    }.get(form, ["--config", str(config)])
    program = tmp_path / "kubelet"
    program.write_text("#!/bin/sh\necho up; read end\n")
    program.chmod(0o755)
    with subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as kubelet:
        assert kubelet.stdout is not None and kubelet.stdin is not None
        kubelet.stdout.readline()
        if form in ("another", "none"):
            assert kubelet_on(folder) != kubelet.pid
        else:  # another test's program of this name may be found first, for a moment
            until("it is found", lambda: kubelet_on(folder) == kubelet.pid)
        kubelet.stdin.close()
    assert kubelet_on(folder) != kubelet.pid


def test_the_table_says_what_runs_and_why_not() -> None:
    waiting = {"reason": "CreateContainerError", "message": "/mnt/x: it isn't there"}
    container: dict[str, Any] = {"name": "c", "ready": False, "restartCount": 3, "state": {"waiting": waiting}}
    pod = {**wanted("a"), "status": {"phase": "Pending", "containerStatuses": [container]}}
    assert pods_text([]) == "no pods"
    assert pods_text([pod]).splitlines() == [
        "NAMESPACE  NAME  PHASE    READY  RESTARTS  SOURCE",
        "default    a-n1  Pending  0/1    3         file:web.yaml",
        "default/a-n1: container c: CreateContainerError: /mnt/x: it isn't there",
    ]
