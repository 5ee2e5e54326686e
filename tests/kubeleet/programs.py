"""kubeleet's programs as processes, on one Redis. Each worker's machine is a folder with a LedgerProvider in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kubeleet.ledger import Entry, entries, pods_in
from tests.lab.redis_server import LIMIT, free_port, until

CHECKOUT = Path(__file__).parents[2]
START = "import sys; from protokube.kubeleet.cli import main; sys.exit(main())"
PRESSURE = "some avg10={:.2f} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class Program:
    """One process, and its log."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self.log_path = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(argv, cwd=CHECKOUT, stdout=file, stderr=file, env=_environment())

    @property
    def log(self) -> str:
        """What it has said."""
        return self.log_path.read_text()

    def says(self, text: str) -> None:
        """Wait until it has said this."""

        def said() -> bool:
            assert self.process.poll() is None or text in self.log, self.log
            return text in self.log

        until(said)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(LIMIT)


class Lab:
    """Workers, schedulers and the service API around one Redis."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.folder = folder
        self.url = url
        self.options = options
        self.programs: list[Program] = []
        self.port = 0

    def start(self, name: str, *words: str, prefix: Sequence[str] = ()) -> Program:
        """Start a program; its log lies under its name."""
        argv = [*prefix, sys.executable, "-c", START, *words, "--redis", self.url, *self.options]
        program = Program(argv, self.folder / f"{name}.log")
        self.programs.append(program)
        return program

    def machine(self, name: str) -> Path:
        """A worker's machine."""
        return self.folder / name / "machine"

    def worker(self, name: str, *more: str, pressure: float | None = None, prefix: Sequence[str] = ()) -> Program:
        """Start a worker. `pressure`: for how much of the time, in percent, tasks wait for memory there."""
        root = self.folder / name
        if pressure is not None:
            (root / "proc/pressure").mkdir(parents=True, exist_ok=True)
            for kind in ("cpu", "memory", "io"):
                (root / "proc/pressure" / kind).write_text(PRESSURE.format(pressure if kind == "memory" else 0.0))
        words = ["--root", str(root), "--provider", "tests.kubeleet.ledger:LedgerProvider"]
        words += ["--provider-config", str(self.machine(name)), *more]
        return self.start(name, "worker", "--name", name, *words, prefix=prefix)

    def workers(self, *names: str) -> list[Program]:
        """Start workers, and wait until each has joined."""
        started = [self.worker(name) for name in names]
        for one in started:
            one.says("is in touch")
        return started

    def scheduler(self, name: str = "s1", prefix: Sequence[str] = ()) -> Program:
        """Start a scheduler."""
        return self.start(f"scheduler-{name}", "scheduler", "--name", name, prefix=prefix)

    def service(self, *more: str) -> Program:
        """Start the service API, and wait until it listens."""
        self.port = free_port()
        program = self.start("service", "service", "--listen", f"127.0.0.1:{self.port}", *more)
        program.says("listening on")
        return program

    def lose_machine(self, name: str, program: Program) -> None:
        """Have a worker's machine die, with all that runs there."""
        program.kill()
        shutil.rmtree(self.machine(name) / "containers")

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Ask the service API; status and answer. A POST says that it is JSON, unless `headers` say otherwise."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | dict(headers or {})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _answer(error.read())

    def post(self, body: Any) -> tuple[int, Any]:
        """Post a service, as often as it takes while Redis can't be asked; status and answer."""
        said: list[tuple[int, Any]] = []

        def taken() -> bool:
            said.append(self.ask("POST", "/service", body))
            return said[-1][0] != 503

        until(taken, every=0.2)
        return said[-1]

    def status(self) -> Mapping[str, Any]:
        """What `kubeleet status` says; it is asked again while it can't reach Redis."""
        argv = [sys.executable, "-c", START, "status", "-o", "json", "--redis", self.url, *self.options]

        def said() -> bytes | None:
            done = subprocess.run(
                argv, cwd=CHECKOUT, capture_output=True, timeout=LIMIT, check=False, env=_environment()
            )
            assert done.returncode in (0, 1), done.stderr
            return done.stdout if done.returncode == 0 else None

        found: Mapping[str, Any] = json.loads(until(said, every=0.5))
        return found

    def running(self, *names: str) -> Counter[str]:
        """How often each container runs on these machines, by its name."""
        return Counter(pod["metadata"]["name"] for name in names for pod in pods_in(self.machine(name)))

    def ledger(self, name: str, *kinds: str) -> list[Entry]:
        """What was done on a machine."""
        return [one for one in entries(self.machine(name)) if one.what in kinds]

    def end(self) -> None:
        """End every program."""
        for one in self.programs:
            with contextlib.suppress(ProcessLookupError):
                one.kill()


@contextlib.contextmanager
def lab(folder: Path, url: str, *options: str) -> Iterator[Lab]:
    """A lab whose programs end with the block."""
    made = Lab(folder, url, *options)
    try:
        yield made
    finally:
        made.end()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _answer(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()
