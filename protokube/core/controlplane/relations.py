"""Settings that must fit one another: a component ends at its start when they don't.

From the components' own validation (component-base/config/validation, client-go's leaderelection, kube-proxy's and
kube-scheduler's apis/config/validation); the defaults are those of both known versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from protokube.core.component.flags import number_of
from protokube.core.component.layers import Settings
from protokube.core.component.values import read_duration
from protokube.core.controlplane.names import MANAGER, PROXY, SCHEDULER
from protokube.core.model import Fault


class Relation(NamedTuple):
    """One setting is larger than another, by a factor, with the default of each; or at least as large."""

    larger: str
    default: object
    smaller: str
    default_of_smaller: object
    factor: float = 1.0
    or_equal: bool = False


def _election(lease: str, renew: str, retry: str) -> tuple[Relation, ...]:
    # A leader tries again with a jitter of 20 % (client-go, leaderelection.JitterFactor).
    seconds = {name: read_duration(text) for name, text in (("15", "15s"), ("10", "10s"), ("2", "2s"))}
    return (
        Relation(lease, seconds["15"], renew, seconds["10"]),
        Relation(renew, seconds["10"], retry, seconds["2"], factor=1.2),
    )


def _sync(mode: str, least: str) -> Relation:
    defaults = read_duration("30s"), read_duration(least)
    return Relation(f"{mode}.syncPeriod", defaults[0], f"{mode}.minSyncPeriod", defaults[1], or_equal=True)


def _relations(component: str) -> tuple[Relation, ...]:
    if component == MANAGER:
        prefix = "leaderElection.leaderElect"
        return _election(f"{prefix}LeaseDuration", f"{prefix}RenewDeadlineDuration", f"{prefix}RetryPeriod")
    if component == SCHEDULER:
        prefix = "leaderElection."
        backoff = Relation("podMaxBackoffSeconds", 10, "podInitialBackoffSeconds", 1, or_equal=True)
        return (*_election(f"{prefix}leaseDuration", f"{prefix}renewDeadline", f"{prefix}retryPeriod"), backoff)
    return (_sync("iptables", "1s"), _sync("ipvs", "0s"), _sync("nftables", "1s")) if component == PROXY else ()


def relation_faults(component: str, settings: Settings) -> Iterator[Fault]:
    """Every pair of settings that doesn't fit, at the place of the one that was written."""
    for one in _relations(component):
        written = [name for name in (one.larger, one.smaller) if name in settings]
        if not written:
            continue
        larger = settings[one.larger].value if one.larger in settings else one.default
        smaller = settings[one.smaller].value if one.smaller in settings else one.default_of_smaller
        least = number_of(smaller) * one.factor
        if number_of(larger) > least or (one.or_equal and number_of(larger) == least):
            continue
        times = f"{one.factor:g} times " if one.factor != 1 else ""
        relation = "at least" if one.or_equal else "more than"
        setting = settings[written[0]]
        expected = f"{one.larger} ({larger}) {relation} {times}{one.smaller} ({smaller})"
        yield Fault(setting.place, f"{setting.value} is wrong; expected {expected}")
