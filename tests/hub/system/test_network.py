"""A network that is gone below TCP: its links are taken down and up again, and neither end hears of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.hub.test_manifests import pod
from tests.lab.netns import Namespace, Network
from tests.lab.trial import until

pytestmark = pytest.mark.root

HUB, COMMANDS = "10.77.0.11", 12
SILENT = 70.0
"""Seconds after which both ends have given a silent link up: two pings that nobody answered."""


def words(module: str, *arguments: str) -> list[str]:
    code = f"import sys; from protokube.hub.{module} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *arguments]


def test_scenario_10_links_that_are_taken_down_and_up_again(tmp_path: Path) -> None:
    folder, manifests, log = tmp_path / "hub", tmp_path / "manifests", tmp_path / "log"
    manifests.mkdir()
    (tmp_path / "policy.yaml").write_text(f"policy: hub\nmanifests: {manifests}\n")
    (tmp_path / "pod.yaml").write_text(pod("web"))
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        a, b = network.node(f"{HUB}/24"), network.node("10.77.0.12/24")

        def start(where: Namespace, argv: list[str]) -> subprocess.Popen[str]:
            errors = stack.enter_context(log.open("a"))
            process = subprocess.Popen(where.command(*argv), stdout=subprocess.PIPE, stderr=errors, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        hub = ("--dir", str(folder))
        a.run(*words("cli_hub", *hub, "init", "--name", "hub", "--address", HUB))
        a.run(*words("cli_hub", *hub, "operator", "anna", "--out", str(tmp_path / "anna")))
        token = a.run(*words("cli_hub", *hub, "token", "n0")).stdout
        start(a, words("cli_hub", *hub, "serve", "--listen", f"{HUB}:7443"))
        until("the hub serves", lambda: "hub hub on" in log.read_text())
        node = ("--state-dir", str(tmp_path / "node"), "--config", str(tmp_path / "policy.yaml"))
        enrol = ("enrol", "--hub", f"{HUB}:7443", "--node", "n0", "--token-file", "-")
        b.run(*words("cli_node", *node, *enrol), stdin=token)
        start(b, words("cli_node", *node, "run"))
        until("it is linked", lambda: "linked to hub" in log.read_text())
        ctl = ("--hub", f"{HUB}:7443", "--identity", str(tmp_path / "anna"), "-o", "json")
        going = []
        for number in range(COMMANDS):
            put = ("manifest.put", "--on", "n0", "--name", f"w{number}", "--file", str(tmp_path / "pod.yaml"))
            if number:  # of two files with one pod's name the runner would end one
                (tmp_path / f"{number}.yaml").write_text(pod(f"web-{number}"))
                put = (*put[:-1], str(tmp_path / f"{number}.yaml"))
            going.append(start(a, words("cli_operator", *ctl, *put, "--seconds", "1800")))
            time.sleep(random.uniform(0.0, 1.0))
            b.ip("link", "set", "eth0", "down")
            time.sleep(SILENT if number == COMMANDS // 2 else random.uniform(0.0, 2.0))
            b.ip("link", "set", "eth0", "up")
        for number, process in enumerate(going):
            out, _ = process.communicate(timeout=600)
            told = json.loads(out)["nodes"]["n0"]
            assert told["outcome"] == "ok", (number, told)
            revisions = list((tmp_path / f"node/manifests/w{number}").glob("*.json"))
            assert len(revisions) == 1 and (manifests / f"hub-w{number}.yaml").exists()
        audit = a.run(*words("cli_hub", *hub, "verify")).stdout
        assert "lines hold" in audit
