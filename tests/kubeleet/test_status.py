"""What `kubeleet status` shows people."""

from __future__ import annotations

from protokube.kubeleet.status import status_text

STATUS = {
    "redis": {"where": "here:6379", "weak": ["appendonly is no"]},
    "workers": [
        {"name": "w1", "silent": 3, "running": 2, "starting": 1, "pending": 0, "load": {"psi": True}},
        {"name": "w2", "silent": None, "running": 0, "starting": 0, "pending": 0, "load": {}},
    ],
    "schedulers": [{"name": "s1", "silent": 1, "placing": 0}],
    "services": [{"uuid": "u1", "name": "web", "wanted": 3, "running": 2}, {"uuid": "u2", "error": "pod: garbage"}],
    "orphans": [{"uuid": "u3", "pods": 4}],
    "queued": 1,
    "missing": 0,
    "doubles": 0,
    "dead": 2,
}


def test_everything_has_a_line() -> None:
    assert status_text(STATUS).splitlines() == [
        "redis here:6379",
        "  WARNING: appendonly is no",
        "worker w1: heard 3 s ago, 2 on, 1 starting, 0 pending",
        "worker w2: never heard, 0 on, 0 starting, 0 pending, no PSI",
        "scheduler s1: heard 1 s ago, placing 0",
        "service u1 (web): 2 of 3 run",
        "service u2: pod: garbage",
        "orphan u3: 4 pods of no service; DELETE ends them",
        "1 queued, 0 missing, 0 doubles, 2 dead",
    ]
