"""What a node uses, as metrics-server and others read it from kubelet. Containers aren't measured."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import key_of, uid_of
from protokube.agent.core.status import time_text


class Usage(Struct, frozen=True):
    """CPU time since the boot in seconds, and memory in bytes."""

    cpu: float
    memory: int
    available: int


def usage_of(stat: str, meminfo: str, ticks: int) -> Usage:
    """From /proc/stat and /proc/meminfo (proc(5)); `ticks` of the clock are a second."""
    fields = [int(one) for one in stat.split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    # guest time is within user time already
    busy = sum(fields[:8]) - idle
    held = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in meminfo.splitlines() if ":" in line}
    return Usage(busy / ticks, held["MemTotal"] - held["MemAvailable"], held["MemAvailable"])


def resource_metrics(usage: Usage) -> str:
    """The text of /metrics/resource."""
    return (
        "# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds\n"
        "# TYPE node_cpu_usage_seconds_total counter\n"
        f"node_cpu_usage_seconds_total {usage.cpu:g}\n"
        "# HELP node_memory_working_set_bytes Current working set of the node in bytes\n"
        "# TYPE node_memory_working_set_bytes gauge\n"
        f"node_memory_working_set_bytes {usage.memory}\n"
        "# HELP scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n"
        "# TYPE scrape_error gauge\n"
        "scrape_error 0\n"
    )


def summary(node: str, usage: Usage, pods: Iterable[Pod], now: float) -> Json:
    """The object of /stats/summary."""
    at = time_text(now)
    return {
        "node": {
            "nodeName": node,
            "cpu": {"time": at, "usageCoreNanoSeconds": int(usage.cpu * 1e9)},
            "memory": {"time": at, "workingSetBytes": usage.memory, "availableBytes": usage.available},
        },
        "pods": [
            {"podRef": {"namespace": key_of(one)[0], "name": key_of(one)[1], "uid": uid_of(one)}, "containers": []}
            for one in pods
        ],
    }
