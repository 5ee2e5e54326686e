"""What a converged daemon costs: CPU, system calls and processes of a reconcile, allocations, memory.

As a program of its own, with protokube's options, it counts the allocations of reconciles in its own process.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.trial import CHECKOUT, TrialNode, until, volume, write_inventory

RECONCILES = 50
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="protokube-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        volumes = [volume(one, one.partition("-")[0], "a/a", "1GiB") for one in ("main-a", "events-a")]
        with TrialNode(base / "node", write_inventory(base, *volumes)) as node:
            daemon = node.start_daemon("--interval", "3600")
            until("converged", lambda: " I converged" in node.log())
            time.sleep(2)
            before = _cpu(daemon.pid)
            _reconciles(node, daemon.pid, RECONCILES)
            print(
                f"CPU of a converged reconcile            {(_cpu(daemon.pid) - before) / RECONCILES * 1000:7.2f} ms"
            )
            calls, processes = _system_calls(node, daemon.pid)
            print(f"system calls of a converged reconcile   {calls:7.0f}")
            print(f"processes started by a reconcile      {processes:7.1f}")
            print(f"memory of the daemon (RSS)        {_rss(daemon.pid):7.1f} MB")
            blocks = len(re.findall("woken by", node.log()))
            print(f"reconciles in all                     {blocks:7d}")
            node.end(daemon)
            inside = [sys.executable, str(Path(__file__).resolve()), *node.arguments()[3:]]
            print(node.run("env", f"PYTHONPATH={CHECKOUT}", *inside, timeout=120).stdout, end="")


def allocations(arguments: list[str]) -> None:
    """Run converged reconciles in this process, and print what they allocate at their peak and what they keep."""
    import tracemalloc

    from protokube.config.choice import choose
    from protokube.config.load import read
    from protokube.config.wiring import wire
    from protokube.eventloop import EventLoop
    from protokube.observe.observer import Observer
    from protokube.reconcile import Memory, reconcile

    settings, _ = read(arguments, {})
    wired = wire(choose(settings), EventLoop(), lambda _reason: None)
    observer, memory = Observer(wired.config, wired.readers, started=time.monotonic()), Memory()

    def run(count: int) -> None:
        for _ in range(count):
            assert not reconcile(observer, wired.writers, memory).steps

    run(5)
    tracemalloc.start()
    run(1)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    run(1)
    _, peak = tracemalloc.get_traced_memory()
    run(RECONCILES)
    after, _ = tracemalloc.get_traced_memory()
    print(f"allocated at the peak of a reconcile  {(peak - before) / 1024:7.0f} KiB")
    print(f"kept by each of {RECONCILES} reconciles          {(after - before) / RECONCILES:7.0f} bytes")
    wired.close()


def _reconciles(node: TrialNode, pid: int, count: int) -> None:
    for _ in range(count):
        seen = node.log().count("woken by SIGUSR1")
        os.kill(pid, signal.SIGUSR1)
        until("the daemon woke", lambda: node.log().count("woken by SIGUSR1") > seen)
        time.sleep(0.05)


def _cpu(pid: int) -> float:
    """Seconds of CPU, children that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / _TICK


def _rss(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def _system_calls(node: TrialNode, pid: int) -> tuple[float, float]:
    """System calls and new processes of a reconcile, as strace counts them over ten reconciles."""
    out = node.base / "strace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "name,calls", "-o", str(out), "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    time.sleep(1)
    _reconciles(node, pid, 10)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    counts = {name: int(calls) for name, calls in re.findall(r"^(\w+)\s+(\d+)$", out.read_text(), re.MULTILINE)}
    started = counts.get("execve", 0) + counts.get("vfork", 0) + counts.get("fork", 0)
    return sum(counts.values()) / 10, started / 10


if __name__ == "__main__":
    allocations(sys.argv[1:])
