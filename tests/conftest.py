"""Holds for every test: the machine is out of reach, and what can't be tested here fails instead of vanishing."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import guard

# A busy machine is no fault of what is tested: neither slow examples nor slow making of them.
settings.register_profile("protokube", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("protokube")

PROBLEM = pytest.StashKey[str | None]()


def pytest_configure(config: pytest.Config) -> None:
    # A time-out around the run must not leave nodes and mounts behind: let every `finally` run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    problem = guard.private_namespaces()
    config.stash[PROBLEM] = problem
    if problem is None:
        guard.bring_loopback_up()
        guard.separate_mounts()
    guard.install(confined=problem is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    problem = item.config.stash[PROBLEM]
    if problem is not None and item.get_closest_marker("root") is not None:
        pytest.fail(problem, pytrace=False)
