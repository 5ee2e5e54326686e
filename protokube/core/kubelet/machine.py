"""The settings with which kubelet would exit on this machine, found before it is started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protokube.core.component.layers import Settings
from protokube.core.component.schema import Version, spell
from protokube.core.kubelet.model import Machine
from protokube.core.model import Fault

# Since 1.35 kubelet exits on a cgroup v1 host unless it is told to stay (KEP 5573); from 1.31 it exits when asked to.
_FAILS_ON_CGROUP_V1: Version = (1, 35, 0)


def machine_faults(machine: Machine, settings: Settings, version: Version) -> Iterator[Fault]:
    """Yield every reason for which kubelet exits on this machine. A fact that could not be read gives none."""
    if machine.cgroup_v2 is False:
        yield from _cgroup_v1(settings, version)
    # failSwapOn is true unless it is configured: the scheduler counts on pods that don't swap.
    if machine.swap and _value(settings, "failSwapOn") is not False:
        devices = ", ".join(machine.swap)
        yield _fault(
            settings,
            "failSwapOn",
            f"kubelet exits while swap is on ({devices}); turn it off (swapoff), or set failSwapOn: false",
        )
    if machine.online_cpus is not None:
        wanted = numbers_of(str(_value(settings, "reservedSystemCPUs") or ""))
        yield from _missing(settings, "reservedSystemCPUs", "CPU", wanted, machine.online_cpus)
    memory = _value(settings, "reservedMemory")
    static = _value(settings, "memoryManagerPolicy") == "Static"  # any other policy passes reservedMemory over
    if machine.numa_nodes is not None and static and isinstance(memory, list):
        nodes = [item["numaNode"] for item in memory]
        yield from _missing(settings, "reservedMemory", "NUMA node", nodes, machine.numa_nodes)


def _cgroup_v1(settings: Settings, version: Version) -> Iterator[Fault]:
    configured = _value(settings, "failCgroupV1")
    if configured is True or (configured is None and version >= _FAILS_ON_CGROUP_V1):
        yield _fault(
            settings,
            "failCgroupV1",
            f"kubelet {spell(version)} exits on a machine with cgroup v1; boot with "
            "systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false",
        )
    if _value(settings, "singleProcessOOMKill") is False:
        yield _fault(settings, "singleProcessOOMKill", "False is wrong on a machine with cgroup v1; leave it out")
    if _value(settings, "memorySwap.swapBehavior") == "LimitedSwap":
        yield _fault(settings, "memorySwap.swapBehavior", "'LimitedSwap' needs cgroup v2, and this machine has v1")


def _missing(
    settings: Settings, name: str, what: str, wanted: Iterable[object], known: frozenset[int]
) -> Iterator[Fault]:
    absent = sorted({number for number in wanted if isinstance(number, int)} - known)
    if absent:
        listed = ", ".join(map(str, absent))
        yield _fault(settings, name, f"this machine has no {what} {listed} (expected some of {ranges_of(known)})")


def numbers_of(text: str) -> list[int]:
    """Parse a list as the kernel and kubelet write it: "0-2,5" → 0, 1, 2, 5. ValueError for all else."""
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        numbers += range(int(first), int(last if dash else first) + 1)
    return numbers


def ranges_of(numbers: Iterable[int]) -> str:
    """The shortest list of numbers, as the kernel writes it: 0, 1, 2, 5 → "0-2,5"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def _value(settings: Settings, name: str) -> object:
    return settings[name].value if name in settings else None


def _fault(settings: Settings, name: str, message: str) -> Fault:
    """A fault at the place where the field is configured, else at the field itself."""
    return Fault(settings[name].place if name in settings else f"kubelet.{name}", message)
