"""The three programs together: a hub is made and served, a node enrols and runs scripts, an operator asks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from protokube.agent.clock import wall_time
from protokube.hub import cli_hub, cli_node, cli_operator
from protokube.hub.cli_node import read_config
from protokube.hub.core.checks import Mode
from protokube.hub.core.policy import Policy
from protokube.hub.core.printable import one_line, printable
from protokube.hub.core.rounds import Strategy, read_strategy
from protokube.hub.hubfiles import OWN_LIFE, HubFiles
from protokube.hub.nodewiring import Place, node_link, undoing
from protokube.hub.verbs.changes import Changes
from protokube.hub.verbs.programs import Programs
from tests.hub.lab import until

STEP = {"action": "mount", "subject": "vol-1", "description": "x\x1b[2J"}
REPORT = {"version": 1, "settled": False, "steps": [STEP]}


class Machine:
    """A node's programs, as scripts that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.calls = folder / "calls"
        self.report = folder / "report.json"
        self.report.write_text(json.dumps(REPORT))
        self._script("protokube", f"cat {self.report}")
        follow = 'case "$*" in *--follow*) exec sleep 100;; esac'
        self._script("journalctl", f'for n in 1 2 3; do echo "line $n"; done; {follow}')
        several = 'is-active*) printf "active\\ninactive\\ninactive\\nactive\\n"'
        self._script("systemctl", f'case "$*" in "is-active protokube.service") echo active;; {several};; esac')
        self._script("virtual-kubelet", "echo '[]'; echo broken >&2; exit 1")

    def programs(self) -> Programs:
        names = ("protokube", "virtual-kubelet", "journalctl", "systemctl")
        return Programs(*((str(self.folder / name),) for name in names))

    def called(self, word: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if word in line] if self.calls.exists() else []

    def _script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{text}\n')
        path.chmod(0o755)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """`protokube-hub serve`, as a process of its own; its port."""
    code = "import sys; from protokube.hub.cli_hub import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "--dir", str(folder), "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"hub test on 127\.0\.0\.1:(\d+)", line)
            assert found is not None, line + process.stderr.read()
            yield int(found[1])
        finally:
            process.terminate()
            process.wait(120)


class Setting:
    """A hub that is served, one enrolled node with a link, and an operator."""

    def __init__(self, tmp_path: Path, port: int, machine: Machine) -> None:
        self.path, self.port, self.machine = tmp_path, port, machine

    async def ctl(self, *arguments: str) -> int:
        """Run nokubectl."""
        given = ["--hub", f"127.0.0.1:{self.port}", "--identity", str(self.path / "anna"), *arguments]
        return await asyncio.to_thread(cli_operator.main, given)


def hub_command(tmp_path: Path, *arguments: str) -> int:
    return cli_hub.main(["--dir", str(tmp_path / "hub"), *arguments])


@asynccontextmanager
async def setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: Mode = Mode.HUB
) -> AsyncIterator[Setting]:
    assert hub_command(tmp_path, "init", "--name", "test", "--address", "127.0.0.1") == 0
    assert hub_command(tmp_path, "operator", "anna", "--out", str(tmp_path / "anna")) == 0
    capsys.readouterr()
    assert hub_command(tmp_path, "token", "n0", "--group", "edge") == 0
    (tmp_path / "token").write_text(capsys.readouterr().out)
    state, machine = tmp_path / "node", Machine(tmp_path / "bin")
    with served(tmp_path / "hub") as port:
        words = ["enrol", "--hub", f"127.0.0.1:{port}", "--node", "n0", "--token-file", str(tmp_path / "token")]
        assert await asyncio.to_thread(cli_node.main, ["--state-dir", str(state), *words]) == 0
        policy = Policy(mode)
        if mode is Mode.SIGNED:
            assert cli_operator.main(["--identity", str(tmp_path / "anna"), "keygen", "anna"]) == 0
            printed = capsys.readouterr().out
            (tmp_path / "policy.yaml").write_text(printed[printed.index("policy:") :])
            policy = read_config(str(tmp_path / "policy.yaml"))
        said: list[str] = []
        place = Place(state, tmp_path / "config.yaml")
        kept = undoing(place, machine.programs(), lambda: None)
        link = node_link(place, policy, machine.programs(), kept, said.append)
        task = asyncio.create_task(link.run())
        try:
            await until(lambda: said or task.done())
            capsys.readouterr()
            made = Setting(tmp_path, port, machine)
            while await made.ctl("-o", "json", "nodes") == 0:
                if json.loads(capsys.readouterr().out)[0]["linked"]:
                    break
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_the_operator_s_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with setting(tmp_path, capsys) as made:
            assert await made.ctl("nodes") == 0
            assert re.search(r"n0\s+edge\s+up\s+enrolled\s+hub", capsys.readouterr().out)
            assert await made.ctl("plan", "--on", "edge") == 0
            shown = capsys.readouterr().out
            assert "n0: mount vol-1: x\\x1b[2J" in shown and "\x1b[2J" not in shown
            assert await made.ctl("logs", "--on", "all", "--lines", "3") == 0
            assert "n0: line 1\nn0: line 2\nn0: line 3\n" in capsys.readouterr().out
            assert made.machine.called("journalctl")[-1].endswith("--unit=protokube --lines=3")
            assert await made.ctl("logs", "--on", "n0", "--follow", "1", "--unit", "kubelet") == 0
            assert await made.ctl("status", "--on", "n0") == 0
            shown = capsys.readouterr().out
            assert "n0: protokube: active" in shown and "n0: addresses: " in shown
            assert "n0: last: status: started, logs: ok, logs: ok, plan: ok" in shown
            assert await made.ctl("-o", "json", "pods", "--on", "n0") == 1
            told = json.loads(capsys.readouterr().out)
            assert told["nodes"]["n0"]["outcome"] == "failed" and "broken" in told["nodes"]["n0"]["why"]
            assert await made.ctl("audit") == 0
            assert await made.ctl("commands") == 0
            assert await made.ctl("plan", "--on", "nobody") == 78
            assert hub_command(tmp_path, "verify") == 0
            assert hub_command(tmp_path, "operator", "anna", "--remove") == 0
            assert await made.ctl("nodes") == 1
            assert "isn't in force" in capsys.readouterr().err

    asyncio.run(test())


def test_sync_hold_and_release_of_a_signed_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with setting(tmp_path, capsys, Mode.SIGNED) as made:
            made.machine.report.write_text(json.dumps({"settled": True, "steps": []}))
            assert await made.ctl("sync", "--on", "n0") == 0
            assert made.machine.called("kill") == [
                "systemctl kill --signal=SIGUSR1 --kill-whom=main protokube.service"
            ]
            assert await made.ctl("hold", "--on", "n0", "--reason", "disk swap", "--minutes", "30") == 0
            assert [line.split()[1] for line in made.machine.called("systemctl")[1:]] == ["mask", "stop"]
            assert (tmp_path / "node" / "held.json").exists()
            assert await made.ctl("release", "--on", "n0") == 0
            assert [line.split()[1] for line in made.machine.called("systemctl")[3:]] == ["unmask", "start"]
            assert not (tmp_path / "node" / "held.json").exists()
            (tmp_path / "anna" / "sign.pem").unlink()
            capsys.readouterr()
            assert await made.ctl("-o", "json", "sync", "--on", "n0") == 1
            assert json.loads(capsys.readouterr().out)["nodes"]["n0"]["why"].startswith("signature: ")
            assert len(made.machine.called("kill")) == 1

    asyncio.run(test())


def test_a_configuration_is_put_and_confirmed_while_it_is_on_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test() -> None:
        async with setting(tmp_path, capsys, Mode.SIGNED) as made:
            config, trial = tmp_path / "config.yaml", tmp_path / "node" / "trial.json"
            config.write_text("a: 1\n")
            (tmp_path / "new.yaml").write_text("a: 2\ntoken: hunter2\n")
            assert await made.ctl("config.list", "--on", "n0") == 0
            words = ("config.put", "--on", "n0", "--file", str(tmp_path / "new.yaml"), "--base", "1")
            put = asyncio.create_task(made.ctl(*words))
            await until(lambda: trial.exists() and "a: 2" in config.read_text())
            command = json.loads(trial.read_text())["command"]
            assert await made.ctl("config.confirm", "--on", "n0", "--of", command) == 0
            assert await put == 0
            assert not trial.exists() and "a: 2" in config.read_text()
            capsys.readouterr()
            assert await made.ctl("config.get", "--on", "n0") == 0
            shown = capsys.readouterr().out
            assert "n0: a: 2" in shown and "hunter2" not in shown
            assert await made.ctl(*words) == 1  # revision 2 is current
            # Cancelled it is taken back, and by its command's id.
            again = asyncio.create_task(made.ctl("rollback", "--on", "n0", "--of", command))
            await until(lambda: trial.exists() and config.read_text() == "a: 1\n")
            assert await made.ctl("cancel", json.loads(trial.read_text())["command"]) == 0
            assert await again == 1
            assert "a: 2" in config.read_text() and not trial.exists()

    asyncio.run(test())


def test_a_hold_ends_by_itself_hub_or_no_hub(tmp_path: Path) -> None:
    async def test() -> None:
        machine, now = Machine(tmp_path / "bin"), [100.0]
        ended: list[bool] = []
        clock = (lambda: now[0], lambda: ended.append(True))
        changes = Changes(machine.programs(), tmp_path, "boot-1", *clock, look=0.02)
        (tmp_path / "held.json").write_text(
            json.dumps({"command": "x", "reason": "disk swap", "boot": "boot-1", "until": 160.0})
        )
        watch = asyncio.create_task(changes.watch())
        await asyncio.sleep(0.1)
        assert machine.called("systemctl") == []
        now[0] = 160.0
        await until(lambda: ended)
        assert [line.split()[1] for line in machine.called("systemctl")] == ["unmask", "start"]
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nodes"], 78),
        (["--hub", "nowhere", "nodes"], 64),
        (["--hub", "127.0.0.1:1", "--identity", "/nonexistent", "nodes"], 78),
        (["exec"], 64),
        (["plan"], 64),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_sent(arguments: Sequence[str], code: int) -> None:
    assert cli_operator.main(arguments) == code


@pytest.mark.parametrize(
    ("text", "code"), [("policy: open", 78), ("policy: signed", 78), ("- a", 78), ("a: &a [*a]", 78), ("\x00", 78)]
)
def test_a_node_with_a_policy_that_can_t_be_read_doesn_t_run(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    given = ["--state-dir", str(tmp_path), "--config", str(tmp_path / "policy.yaml"), "run"]
    assert cli_node.main(given) == code


def test_a_node_that_isn_t_enrolled_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--state-dir", str(tmp_path / "s"), "--config", str(tmp_path / "none.yaml")]
    assert cli_node.main([*given, "run"]) == 78
    assert "nokubelet enrol" in capsys.readouterr().err
    assert cli_node.main([*given, "status"]) == 1
    (tmp_path / "token").write_text("nk1.hunter2")
    enrol = ["enrol", "--hub", "127.0.0.1:1", "--node", "a", "--token-file", str(tmp_path / "token")]
    assert cli_node.main([*given, *enrol]) == 78
    assert "hunter2" not in capsys.readouterr().err


def test_the_hub_s_own_certificate_is_made_anew_in_time(tmp_path: Path) -> None:
    ahead = [0.0]
    files = HubFiles(tmp_path / "hub", lambda: wall_time() + ahead[0])
    files.init("test", ["127.0.0.1"])
    assert not files.renew_own()
    ahead[0] = OWN_LIFE * 0.7
    assert files.renew_own() and not files.renew_own()
    files.certificate.unlink()
    assert files.renew_own()
    assert (files.folder / "ca.key").stat().st_mode & 0o777 == 0o600
    assert os.stat(files.folder).st_mode & 0o777 == 0o700


def test_a_node_s_text_can_t_speak_to_a_terminal() -> None:
    assert printable("a\tb\nc é 😀") == "a\tb\nc é 😀"
    assert one_line("ok\nn1: failed") == "ok\\nn1: failed"
    assert printable("\x1b]0;x\x07\r\u202e\x9b") == "\\x1b]0;x\\x07\\r\\u202e\\x9b"


@pytest.mark.parametrize(
    ("words", "nodes", "seconds"),
    [
        (["sync"], 9, 300),
        (["rollback", "--revision", "1"], 9, 1200),
        (["rollback", "--revision", "1", "--strategy", "rolling=3"], 9, 1440),
        (["rollback", "--revision", "1", "--strategy", "one"], 9, 3600),
        (["rollback", "--revision", "1", "--strategy", "one", "--confirm-within", "900"], 1, 1920),
    ],
)
def test_a_deadline_leaves_time_for_each_round_s_trial(words: list[str], nodes: int, seconds: float) -> None:
    given = cli_operator.parser().parse_args([words[0], "--on", "all", *words[1:]])
    strategy = read_strategy(given.strategy)
    assert given.seconds is None and isinstance(strategy, Strategy)
    assert cli_operator._seconds(given, strategy, nodes) == seconds
