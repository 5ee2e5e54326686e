"""`virtual-kubelet serve-web` and `--provider web`, as programs."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from protokube.agent.cli import main
from protokube.agent.options import read_options
from protokube.agent.providers.web import WebProvider
from protokube.agent.wiring import make_provider
from protokube.errors import ConfigError
from tests.agent.harness import until
from tests.agent.pods import manifest, wanted
from tests.agent.web.raw import RawServer, answer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--listen 0.0.0.0:3000", "say with --token-file or --client-ca-file who may ask"),
        ("--listen [::]:3000", "who may ask"),
        ("--listen 3000", "ADDRESS:PORT was expected"),
        ("--listen 127.0.0.1:99999", "ADDRESS:PORT was expected"),
        ("--token-file /nowhere", "/nowhere: there is no such file"),
        ("--tls-cert-file /etc/passwd", "--tls-key-file"),
        ("--client-ca-file /etc/passwd", "it needs --tls-cert-file"),
    ],
)
def test_a_server_that_cant_be_is_refused(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-web", "--provider", "memory", *arguments.split()]) == 78
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_on_loopback_no_token_is_needed(listen: str) -> None:
    assert read_options(["serve-web", "--listen", listen], {}).serving.port == 1
    assert read_options(["serve-web"], {"PORT": "8080"}).serving.port == 8080


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("web.yaml", "url: [", "web.yaml"),
        ("web.yaml", "- 1", "a map was expected"),
        ("web.toml", "url =", "web.toml"),
        ("web.toml", 'url = "http://h/base"', "expected no path"),
    ],
)
def test_a_provider_s_file_that_cant_be_read_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    options = read_options(["--provider", "web", "--provider-config", str(tmp_path / name)], {})
    with pytest.raises(ConfigError) as caught:
        make_provider(options)
    assert said in str(caught.value)


def test_the_provider_s_file_may_be_toml(tmp_path: Path) -> None:
    (tmp_path / "web.toml").write_text('url = "http://127.0.0.1:1"')
    options = read_options(["--provider", "web", "--provider-config", str(tmp_path / "web.toml")], {})
    assert isinstance(make_provider(options), WebProvider)


def test_an_agent_runs_a_file_s_pod_on_another_machine_s_provider(tmp_path: Path) -> None:
    """Both programs: serve-web over the memory provider, and an agent with --provider web."""
    (tmp_path / "token").write_text("s3cret\n")
    manifests = tmp_path / "root/etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "web.json").write_text(json.dumps(manifest()))

    async def test() -> None:
        server = await _program(
            "serve-web", "--provider", "memory", "--listen", "127.0.0.1:0", "--token-file", f"{tmp_path}/token"
        )
        assert server.stderr is not None
        line = (await server.stderr.readline()).decode()
        port = line.rpartition(":")[2].strip()
        config = tmp_path / "web.yaml"
        config.write_text(f"url: http://127.0.0.1:{port}\ntokenFile: {tmp_path}/token\n")
        more = ("--root", str(tmp_path / "root"), "--nodename", "n1")
        agent = await _program("--provider", "web", "--provider-config", str(config), "--standalone", *more)
        reports = tmp_path / "root/run/protokube/agent/pods"
        try:
            await until("the pod is reported to run", lambda: [*reports.glob("*.json")])
            [report] = reports.glob("*.json")
            assert json.loads(report.read_text())["metadata"]["name"] == wanted()["metadata"]["name"]
        finally:
            for program in (agent, server):
                program.send_signal(signal.SIGTERM)
                await program.communicate()
        assert (agent.returncode, server.returncode) == (0, 0)

    asyncio.run(test())


def test_a_dry_run_asks_for_the_pods_and_nothing_else(tmp_path: Path) -> None:
    manifests = tmp_path / "root/etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "web.json").write_text(json.dumps(manifest()))

    async def test() -> None:
        raw = RawServer([answer("200 OK", b"[]")])
        server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
        config = tmp_path / "web.yaml"
        config.write_text(f"url: http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
        chosen = ("--provider", "web", "--provider-config", str(config), "--standalone", "--dry-run")
        command = [sys.executable, "-m", "protokube.agent", *chosen]
        more = ("--root", str(tmp_path / "root"), "--nodename", "n1")
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(*command, *more, stdout=pipe, stderr=pipe)
        printed, logged = await program.communicate()
        server.close()
        await server.wait_closed()
        assert (program.returncode, logged) == (0, b"")
        assert b"create default/web-n1" in printed
        assert [head.partition("\r\n")[0] for head, _ in raw.seen] == ["GET /getPods HTTP/1.1"]
        assert [path.name for path in (tmp_path / "root").iterdir()] == ["etc"]

    asyncio.run(test())


async def _program(*arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "protokube.agent", *arguments]
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
