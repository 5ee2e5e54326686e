"""Forty nokubelets beside one hub: one setting is changed on all of them, four at a time, and taken back.

Each is a program of its own with a root of its own (mount namespaces: /etc, /var/lib and /usr/local/sbin). protokube
and systemctl are scripts there. What a real protokube makes of it is test_real_node's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab.trial import until

pytestmark = pytest.mark.root

NAMES = [f"n{number:02}" for number in range(40)]
BREAKS = "n05"
"""Its protokube dies of the new configuration."""
OLD, NEW = "kubelet: {maxPods: 40}\n", "kubelet: {maxPods: 41}\n"
AT_ONCE = 4
STATE = "/var/lib/protokube/nokubelet"
UNIT = """#!/bin/sh
start() {
    state=active
    if [ -e /etc/breaks ] && grep -q 41 /etc/protokube/config.yaml; then state=failed; fi
    echo $state >/var/lib/unit
}
case "$*" in
    "is-active protokube.service") cat /var/lib/unit ;;
    kill*SIGHUP* | restart*) start ;;
    *) echo "systemctl $*: not foreseen" >&2; exit 1 ;;
esac
"""
NODE = """
mount --bind "$1/etc" /etc && mount --bind "$1/lib" /var/lib && mount --bind "$1/sbin" /usr/local/sbin || exit 1
shift; exec "$@"
"""
START = """
import sys
from protokube.hub.cli_node import main
enrol, run = sys.argv[1:-1], sys.argv[-1:]
sys.exit(main(enrol) or main(run))
"""


def words(module: str, *arguments: str) -> list[str]:
    code = f"import sys; from protokube.hub.{module} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *arguments]


def run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Fleet:
    """A hub that is served, its operator anna, and forty nodes that run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._log = stack.enter_context((folder / "log").open("w"))
        self.hub = ("--dir", str(folder / "hub"))
        run(words("cli_hub", *self.hub, "init", "--name", "hub", "--address", "127.0.0.1"))
        run(words("cli_hub", *self.hub, "operator", "anna", "--out", str(folder / "anna")))
        printed = run(words("cli_operator", "--identity", str(folder / "anna"), "keygen", "anna"))
        self.policy = printed[printed.index("policy:") :]
        self._start(words("cli_hub", *self.hub, "serve", "--listen", "127.0.0.1:0"))
        until("the hub serves", lambda: self._port() is not None)
        self.ctl = ("--hub", f"127.0.0.1:{self._port()}", "--identity", str(folder / "anna"), "-o", "json")

    def _port(self) -> str | None:
        found = re.search(r"hub hub on 127\.0\.0\.1:(\d+)", (self.folder / "log").read_text())
        return None if found is None else found[1]

    def _start(self, argv: Sequence[str]) -> None:
        process = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def add(self, name: str) -> None:
        """Enrol a node by a token of its own, and keep it running."""
        root = self.folder / name
        for place in ("etc/protokube", "lib", "sbin"):
            (root / place).mkdir(parents=True)
        for file in ("passwd", "group", "hosts", "nsswitch.conf"):
            (root / "etc" / file).write_bytes((Path("/etc") / file).read_bytes())
        (root / "etc/protokube/nokubelet.yaml").write_text(self.policy)
        (root / "etc/protokube/config.yaml").write_text(OLD)
        (root / "lib/unit").write_text("active\n")
        if name == BREAKS:
            (root / "etc/breaks").touch()
        for program, text in (("systemctl", UNIT), ("protokube", "#!/bin/sh\necho '{}'\n")):
            (root / "sbin" / program).write_text(text)
            (root / "sbin" / program).chmod(0o755)
        token = run(words("cli_hub", *self.hub, "token", name, "--group", "edge"))
        (root / "etc/token").write_text(token)
        enrol = ("enrol", "--hub", f"127.0.0.1:{self._port()}", "--node", name, "--token-file", "/etc/token")
        own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", NODE, "sh", str(root)]
        self._start([*own, sys.executable, "-c", START, *enrol, "run"])

    def nodes(self) -> Any:
        """The fleet, as scripts see it."""
        return json.loads(run(words("cli_operator", *self.ctl, "nodes")))

    def config(self, name: str) -> str:
        """A node's configuration."""
        return (self.folder / name / "etc/protokube/config.yaml").read_text()

    def on_trial(self, command: str) -> set[str]:
        """Nodes on which a command's configuration waits for its confirmation."""
        found = set()
        for name in NAMES:
            try:
                note = json.loads(self.state(name, "trial.json").read_text())
            except FileNotFoundError:
                continue
            if note["command"] == command and (self.folder / name / "lib/unit").read_text() == "active\n":
                found.add(name)
        return found

    def state(self, name: str, file: str) -> Path:
        """A file of a nokubelet's."""
        return self.folder / name / STATE.removeprefix("/var/") / file

    def change(self, *arguments: str) -> tuple[int, str, Any]:
        """Send a change, and confirm it wherever it is on trial: exit code, id, and how it ended by node."""
        argv = words("cli_operator", *self.ctl, *arguments)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as going:
            assert going.stderr is not None and going.stdout is not None
            line = going.stderr.readline()
            assert line.startswith("command "), line + going.stderr.read()
            command, confirmed = line.removeprefix("command ").strip(), set[str]()
            while going.poll() is None:
                time.sleep(0.5)
                if (waiting := self.on_trial(command) - confirmed - {BREAKS}) != set():
                    on = ("--on", ",".join(waiting), "--of", command)
                    run(words("cli_operator", *self.ctl, "config.confirm", *on))
                    confirmed |= waiting
            return going.returncode, command, json.loads(going.stdout.read())["nodes"]

    def at_once(self, command: str) -> int:
        """On how many nodes a command ran at the same time, by their own records."""
        changes = []
        for name in NAMES:
            lines = [json.loads(line) for line in self.state(name, "journal.jsonl").read_text().splitlines()]
            events = [line["event"] for line in lines if "event" in line and line["event"]["id"] == command]
            changes += [(event["at"], 1) for event in events if event["kind"] == "started"]
            changes += [(event["at"], -1) for event in events if event["kind"] == "done"]
        running = [sum(step for _, step in sorted(changes)[: place + 1]) for place in range(len(changes))]
        return max(running)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        made = Fleet(tmp_path, stack)
        for name in NAMES:
            made.add(name)
        until("all are linked", lambda: sum(one["linked"] for one in made.nodes()) == len(NAMES))
        yield made


def test_one_setting_on_forty_nodes_four_at_a_time_and_back(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(NEW)
    put = ("config.put", "--on", "edge", "--file", str(tmp_path / "new.yaml"), "--strategy", f"rolling={AT_ONCE}")
    others = [name for name in NAMES if name != BREAKS]

    # One failure is allowed: the rest goes on, and the broken one is as it was.
    code, command, ends = fleet.change(*put, "--base", "1", "--max-fail", "1")
    assert code == 1 and ends[BREAKS]["outcome"] == "failed" and "stay active" in ends[BREAKS]["why"]
    assert {ends[name]["outcome"] for name in others} == {"ok"}
    assert {fleet.config(name) for name in others} == {NEW} and fleet.config(BREAKS) == OLD
    assert (fleet.folder / BREAKS / "lib/unit").read_text() == "active\n"
    assert fleet.at_once(command) == AT_ONCE

    back = ("rollback", "--on", ",".join(others), "--of", command, "--strategy", "rolling=13")
    code, command, ends = fleet.change(*back)
    assert code == 0 and {one["outcome"] for one in ends.values()} == {"ok"}
    assert {fleet.config(name) for name in NAMES} == {OLD}
    assert fleet.at_once(command) <= 13

    # Without that the first failure stops what wasn't sent yet; what was sent comes to its end.
    code, command, ends = fleet.change(*put, "--base", "3")
    assert code == 1 and ends[BREAKS]["outcome"] == "failed"
    sent = [name for name in others if ends[name]["stage"] != "skipped"]
    assert sent == others[: len(sent)] and AT_ONCE < len(sent) < len(others) // 2
    assert all("not sent: 1 of the nodes" in ends[name]["why"] for name in others[len(sent) :])
    assert [name for name in NAMES if fleet.config(name) == NEW] == sent
    assert fleet.at_once(command) == AT_ONCE
    assert {one["linked"] for one in fleet.nodes()} == {True}
    assert "lines hold" in run(words("cli_hub", *fleet.hub, "verify"))
