"""The tests' own guard: what it refuses, and that nothing swallows the refusal."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.guard import Refused

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("address", [("198.41.0.4", 53), ("2001:503:ba3e::2:30", 53)])
def test_no_address_beyond_loopback(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(Refused, match=address[0]):
        client.connect(address)
    with socket.socket(family, socket.SOCK_DGRAM) as sender, pytest.raises(Refused, match=address[0]):
        sender.sendto(b"x", address)


def test_no_name_is_looked_up() -> None:
    with pytest.raises(Refused, match=r"ec2.us-east-1.amazonaws.com"):
        socket.getaddrinfo("ec2.us-east-1.amazonaws.com", 443)


def test_loopback_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.parametrize("path", ["/run/dbus/system_bus_socket", b"/run/systemd/private"])
def test_not_the_machines_own_systemd(path: str | bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(Refused, match="SystemdNode"):
        client.connect(path)


def test_no_credentials() -> None:
    with pytest.raises(Refused, match="credentials"):
        Path("~/.aws/credentials").expanduser().open()
    assert not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"} & os.environ.keys()


def test_no_broad_except_swallows_a_refusal() -> None:
    with pytest.raises(Refused), contextlib.suppress(Exception):
        socket.getaddrinfo("www.kernel.org", 443)


@pytest.mark.parametrize(
    ("surroundings", "reason"),
    [
        # Nobody, as far as the program can see; but the files are still readable.
        (["unshare", "--user"], "this test needs root"),
        pytest.param(
            ["unshare", "--net", "sh", "-ec", 'ip link add eth9 type bridge; exec "$@"', "sh"],
            "the machine's own network (eth9)",
            marks=pytest.mark.root,
        ),
        pytest.param(
            ["unshare", "--net", "--mount", "--propagation", "shared"],
            "would spread to the machine",
            marks=pytest.mark.root,
        ),
    ],
)
def test_a_root_test_fails_where_it_must_not_run(tmp_path: Path, surroundings: list[str], reason: str) -> None:
    module = tmp_path / "test_root.py"
    module.write_text("import pytest\n@pytest.mark.root\ndef test_x(): pass\n")
    project = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*surroundings, sys.executable, "-m", "pytest", *project, f"--basetemp={tmp_path / 'base'}", str(module)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stdout
    assert "1 error" in done.stdout


@pytest.mark.root
def test_what_one_worker_mounts_is_never_seen_or_copied_by_another() -> None:
    mine, parents = (Path(f"/proc/{pid}/ns/mnt").readlink() for pid in (os.getpid(), os.getppid()))
    assert mine != parents
