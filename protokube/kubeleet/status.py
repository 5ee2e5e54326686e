"""`kubeleet status`: what stands in Redis, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from protokube.kubeleet.connect import Connector
from protokube.kubeleet.core.census import Census, doubles, missing, service_pods, states, unserved
from protokube.kubeleet.core.pod import Wanted, read_pod
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.reading import read_census, shown_workers, silence


async def read_status(connector: Connector, keys: Keys) -> Mapping[str, Any]:
    """Everything, as JSON. Raises ProviderError."""
    async with connector.link() as link:
        census = await read_census(link, keys)
    return {
        "redis": {"where": str(connector.target), "weak": list(connector.weak)},
        "workers": shown_workers(census),
        "schedulers": [
            {
                "name": name,
                "silent": silence(census, one.beat),
                "placing": len(one.placing),
            }
            for name, one in sorted(census.schedulers.items())
        ],
        "queued": len(census.queue),
        "dead": len(census.dead),
        "missing": len(missing(census)),
        "doubles": len(doubles(census)),
        "services": [_service(census, name, request) for name, request in sorted(census.services.items())],
        "orphans": [{"uuid": name, "pods": len(pods)} for name, pods in sorted(unserved(census).items())],
    }


def _service(census: Census, name: str, request: bytes) -> dict[str, Any]:
    service = read_pod(request)
    if not isinstance(service, Wanted):
        return {"uuid": name, "error": str(service)}
    running = sum(state.startswith("on@") for state in states(census, service).values())
    return {"uuid": name, "name": service.name, "wanted": len(service_pods(request)), "running": running}


def status_text(status: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"redis {status['redis']['where']}"]
    lines += [f"  WARNING: {text}" for text in status["redis"]["weak"]]
    for one in status["workers"]:
        lines.append(
            f"worker {one['name']}: {_silence(one['silent'])}, {one['running']} on, {one['starting']} starting, "
            f"{one['pending']} pending" + ("" if one["load"].get("psi") else ", no PSI")
        )
    lines += [
        f"scheduler {one['name']}: {_silence(one['silent'])}, placing {one['placing']}"
        for one in status["schedulers"]
    ]
    lines += [
        f"service {one['uuid']} ({one['name']}): {one['running']} of {one['wanted']} run"
        if "error" not in one
        else f"service {one['uuid']}: {one['error']}"
        for one in status["services"]
    ]
    lines += [
        f"orphan {one['uuid']}: {one['pods']} pods of no service; DELETE ends them" for one in status["orphans"]
    ]
    counts = ", ".join(f"{status[key]} {key}" for key in ("queued", "missing", "doubles", "dead"))
    return "\n".join([*lines, counts])


def _silence(seconds: int | None) -> str:
    return "never heard" if seconds is None else f"heard {seconds} s ago"


def status_json(status: Mapping[str, Any]) -> str:
    """The same for programs."""
    return json.dumps(status, indent=1)
