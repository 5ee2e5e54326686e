"""virtual-kubelet with 500 pods in memory: what a converged minute costs, and what a changed manifest does.

.venv/bin/python -m benchmarks agent
"""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
import time
from pathlib import Path

from protokube.agent.core.model import Pod
from protokube.agent.loop import Agent
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.reporters.file import FileReporter
from protokube.agent.sources.files import FileSource

MANY = 500


def manifest(number: int, grace: int = 30) -> Pod:
    container = {"name": "c", "image": "host", "command": ["sleep", "1000"]}
    spec = {"hostNetwork": True, "terminationGracePeriodSeconds": grace, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": spec}


async def until_idle(agent: Agent, provider: MemoryProvider, creates: int) -> None:
    while not (agent.idle and provider.calls["create_pod"] == creates):
        await asyncio.sleep(0.001)


async def measure(base: Path) -> None:
    folder = base / "manifests"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"{number}.yaml").write_text(json.dumps(manifest(number)))
    provider = MemoryProvider()
    agent = Agent(provider, [FileSource(folder, "n")], FileReporter(base / "reports"))
    since, used = time.monotonic(), time.process_time()
    task = asyncio.create_task(agent.run())
    await until_idle(agent, provider, MANY)
    print(f"{MANY} pods created: {time.monotonic() - since:.2f} s, CPU {time.process_time() - used:.2f} s")
    await asyncio.sleep(5)
    calls, planned = provider.calls.copy(), agent.planned
    used, switches = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await asyncio.sleep(60)
    print(
        f"a converged minute: CPU {(time.process_time() - used) * 1000:.0f} ms, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches} wake-ups, "
        f"{agent.planned - planned} pods judged, calls {dict(provider.calls - calls)}"
    )
    calls, planned, used, since = provider.calls.copy(), agent.planned, time.process_time(), time.monotonic()
    (folder / ".7.new").write_text(json.dumps(manifest(7, grace=1)))
    (folder / ".7.new").rename(folder / "7.yaml")
    await until_idle(agent, provider, MANY + 1)
    print(
        f"a changed manifest: {(time.monotonic() - since) * 1000:.0f} ms, CPU "
        f"{(time.process_time() - used) * 1000:.0f} ms, {agent.planned - planned} pods judged, "
        f"calls {dict(provider.calls - calls)}"
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))
