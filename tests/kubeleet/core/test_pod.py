"""A pod's bytes, its names, and what a report says of its start."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from protokube.agent.core.pods import owner_of
from protokube.agent.core.status import synthesized
from protokube.core.model import Fault
from protokube.kubeleet.core.pod import (
    Failure,
    Wanted,
    agent_pod,
    exists,
    failure,
    kept,
    pods_of,
    raw_of,
    read_pod,
    read_service,
    uid_of,
)

SEED = b'{"name":"test","uuid":"djkfghsdjkfhjksdghfjksdjkfhsd","image":"spaster/alpine-sleep","replica":3}'


def made(raw: bytes = SEED) -> dict[str, Any]:
    pod = agent_pod(raw)
    assert not isinstance(pod, Fault)
    return pod


def test_the_seed_becomes_the_container_of_the_original_name() -> None:
    pod = made()
    # '{}-{}-{}'.format(name, replica, shake_256(bytes).hexdigest(8))[-200:], as the original has it.
    assert pod["metadata"]["name"] == "test-3-52944516fe38bf0c"
    assert pod["spec"]["containers"] == [{"name": "main", "image": "spaster/alpine-sleep"}]
    assert pod["metadata"]["labels"] == {"orchestrator": "kubeleet"}
    assert pod["spec"]["hostNetwork"] is True and pod["spec"]["restartPolicy"] == "Always"
    assert raw_of(pod) == SEED and owner_of(pod) == "redis"


def test_the_uid_is_that_of_the_bytes() -> None:
    assert uid_of(SEED) == str(uuid.uuid5(uuid.NAMESPACE_OID, SEED.decode())) == made()["metadata"]["uid"]
    assert uid_of(SEED.replace(b",", b", ")) != uid_of(SEED)


def test_unknown_keys_stay_in_the_identity() -> None:
    raw = SEED[:-1] + b',"cpu":2}'
    assert raw_of(made(raw)) == raw
    assert made(raw)["metadata"]["name"] != made()["metadata"]["name"]


def test_a_services_pods_are_written_as_the_original_writes_them() -> None:
    assert pods_of(Wanted("web", "u", "img", 2)) == [
        b'{"name":"web","uuid":"u","image":"img","replica":1}',
        b'{"name":"web","uuid":"u","image":"img","replica":2}',
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b'{"name":"a"}',
        b'{"name":"A","uuid":"u","image":"i","replica":1}',
        b'{"name":"a","uuid":"u","image":"","replica":1}',
        b'{"name":"a","uuid":"u","image":"i","replica":0}',
        b'{"name":"a","uuid":"u","image":"i","replica":1,"z":"\xff"}',
        b'{"name":"a","uuid":"u","image":"i","replica":1,"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name":"' + b"a" * 64 + b'","uuid":"u","image":"i","replica":1}',
    ],
)
def test_other_bytes_are_no_pod(raw: bytes) -> None:
    assert isinstance(read_pod(raw), Fault)


def test_a_request_brings_its_uuid_or_gets_one() -> None:
    assert read_service(b'{"name":"a","image":"i","replica":2}', "new") == Wanted("a", "new", "i", 2)
    assert read_service(b'{"name":"a","image":"i","replica":2,"uuid":"own"}', "new") == Wanted("a", "own", "i", 2)


def test_every_fault_of_a_request_names_its_field() -> None:
    faults = read_service(b'{"name":7,"replica":true,"port":80}', "new")
    assert isinstance(faults, tuple)
    assert {fault.place for fault in faults} == {"name", "replica", "port", "image"}
    nested = b"[" * 20_000 + b"]" * 20_000
    for body in (
        b"",
        b"[]",
        b"\xff",
        nested,
        b'{"name":' + nested + b"}",
        b'{"name":' + nested[19_000:-19_000] + b"}",
    ):
        assert isinstance(read_service(body, "new"), tuple)


def with_state(phase: str, **state: Any) -> dict[str, Any]:
    return {**made(), "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}}


@pytest.mark.parametrize(
    ("pod", "there", "why"),
    [
        (made(), False, None),
        (with_state("Pending", waiting={"reason": "ContainerCreating"}), False, None),
        (synthesized(made(), "Pending", "Waiting", "it is ending"), False, None),
        (
            with_state("Pending", waiting={"reason": "ErrImagePull", "message": "no"}),
            False,
            Failure("ErrImagePull: no"),
        ),
        (synthesized(made(), "Pending", "ProviderFailed", "disk"), False, Failure("ProviderFailed: disk")),
        (synthesized(made(), "Failed", "ProviderFailed", "no images"), False, Failure("no images", True)),
        (with_state("Running", running={}), True, None),
        (with_state("Running", waiting={"reason": "CrashLoopBackOff"}), True, Failure("CrashLoopBackOff")),
    ],
)
def test_what_a_report_says_of_a_start(pod: dict[str, Any], there: bool, why: Failure | None) -> None:
    assert exists(pod) is there
    if not there:
        assert failure(pod) == why


def test_what_is_kept_is_told_from_what_ends_and_from_others() -> None:
    running = with_state("Running", running={})
    ending = {**running, "metadata": {**running["metadata"], "deletionTimestamp": "2026-11-28T00:00:00Z"}}
    other = {**running, "metadata": {"name": "x", "uid": "1"}}
    assert kept([running, ending, other]) == [SEED]
    assert kept([synthesized(made(), "Pending", "Waiting", "the machine has just started")]) == [SEED]
