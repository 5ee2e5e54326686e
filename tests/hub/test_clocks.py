"""Clocks that are wrong, and weeks that pass: the programs as processes, with a clock that libfaketime moves."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.hub import cli_hub, cli_node
from tests.hub.lab import HOST, Hub, Lab, Node, until
from tests.lab.trial import until as wait_until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime isn't installed")
LIMIT = 120.0


@contextmanager
def program(module: str, ahead: str, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of the programs, with its wall clock moved; boot time goes on as it is, as on a machine."""
    code = f"import sys; from protokube.hub.{module} import main; sys.exit(main(sys.argv[1:]))"
    moved: Mapping[str, str] = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": ahead,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    with log.open("ab") as errors:
        argv = [sys.executable, "-c", code, *arguments]
        process = subprocess.Popen(argv, env={**os.environ, **moved}, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def node_program(node: Node, ahead: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node's program over the files of a test's node."""
    given = ("--state-dir", str(node.folder), "--config", str(node.folder / "none.yaml"), "run")
    with program("cli_node", ahead, log, *given) as process:
        yield process


@pytest.mark.parametrize("ahead", ["+1h", "-1h"])
def test_scenario_7_a_clock_that_is_an_hour_off_renews_in_time(tmp_path: Path, ahead: str) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub", life=20.0)
        async with lab.hub() as hub:
            node = Node(lab, "n0", {})
            await node.enrol(hub.token("n0"))
            serials: set[str] = set()
            with node_program(node, ahead, tmp_path / "log"):
                while len(serials) < 3:
                    await asyncio.sleep(0.1)
                    serials.add(current(hub))
                await until(lambda: node.linked(hub))
        text = (tmp_path / "log").read_text()
        assert "valid at this machine's time" not in text, text

    asyncio.run(asyncio.wait_for(test(), 2 * LIMIT))


def current(hub: Hub) -> str:
    member = hub.store.member("n0")
    assert member is not None
    return member.current.serial


@pytest.mark.parametrize(("ahead", "year"), [("+3650d", 10), ("-3650d", -10)])
def test_scenario_7_a_clock_that_is_ten_years_off_is_named_beside_the_hub_s(
    tmp_path: Path, ahead: str, year: int
) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        log = tmp_path / "log"
        async with lab.hub() as hub:
            node = Node(lab, "n0", {})
            await node.enrol(hub.token("n0"))
            with node_program(node, ahead, log) as process:
                said = re.compile(r"valid at this machine's time \((\d{4})-.*the hub says (\d{4})-")
                await until(lambda: said.search(log.read_text()) or process.poll() is not None)
                found = said.search(log.read_text())
                assert found is not None, log.read_text()
                assert int(found[1]) - int(found[2]) in (year, year - 1, year + 1)
                assert not node.linked(hub)

    asyncio.run(test())


def test_off_for_three_weeks_a_node_comes_back_by_itself_and_a_banned_one_doesn_t(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, log = tmp_path / "hub", tmp_path / "hub.log"

    def hub(*arguments: str) -> str:
        assert cli_hub.main(["--dir", str(folder), *arguments]) == 0
        return capsys.readouterr().out

    @contextmanager
    def served(ahead: str, port: int = 0) -> Iterator[int]:
        log.write_text("")
        given = ("--dir", str(folder), "serve", "--listen", f"{HOST}:{port}")
        with program("cli_hub", ahead, log, *given):
            pattern = re.compile(r"hub test on 127\.0\.0\.1:(\d+)")
            found = wait_until("the hub serves", lambda: pattern.search(log.read_text()))
            yield int(found[1])

    hub("init", "--name", "test", "--address", HOST)
    nodes = {name: tmp_path / name for name in ("back", "banned")}
    with served("+0d") as port:
        for name, state in nodes.items():
            (tmp_path / "token").write_text(hub("token", name).splitlines()[-1])
            words = ["enrol", "--hub", f"{HOST}:{port}", "--node", name, "--token-file", str(tmp_path / "token")]
            assert cli_node.main(["--state-dir", str(state), *words]) == 0
    hub("ban", "banned", "--reason", "sold")
    before = {name: (state / "keys/current/cert.pem").read_bytes() for name, state in nodes.items()}
    with served("+21d", port):
        for name, state in nodes.items():
            said = tmp_path / f"{name}.log"
            given = ("--state-dir", str(state), "--config", str(tmp_path / "none.yaml"), "run")
            with program("cli_node", "+21d", said, *given) as process:
                if name == "back":
                    wait_until("it is linked", lambda: "linked to test" in said.read_text())
                    assert (state / "keys/current/cert.pem").read_bytes() != before[name]
                else:
                    assert process.wait(LIMIT) == 78
                    assert "banned: sold; no token lets it in" in said.read_text()
                    assert (state / "keys/current/cert.pem").read_bytes() == before[name]
