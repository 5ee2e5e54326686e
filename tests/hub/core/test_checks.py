"""What a node asks of a command: each check by name, their order, and the policies."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.model import Fault
from protokube.hub.core.checks import LARGEST_BODY, Mode, Order, Refusal, Unsigned, digest, read_body
from protokube.hub.core.messages import Send, encode, from_hub
from protokube.hub.core.policy import Policy, read_policy, signing_key
from protokube.hub.core.verbs import VERBS, Arguments, read_arguments
from tests.hub.core.commands import EXAMPLES, ID, body, judged, situation

CHANGES = [name for name, verb in VERBS.items() if verb.changes]
READS = [name for name, verb in VERBS.items() if not verb.changes]


def check(made: Order | Refusal) -> str:
    return made.check if isinstance(made, Refusal) else "taken"


def test_there_is_no_shell() -> None:
    assert set(VERBS) == set(EXAMPLES)
    assert not {"exec", "shell", "run", "read", "upgrade", "reboot", "drain"} & set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_taken_with_its_arguments(verb: str) -> None:
    order = judged(body(verb))
    assert isinstance(order, Order) and order.verb.name == verb and order.body.id == ID


@pytest.mark.parametrize(
    ("expected", "text", "changed"),
    [
        ("json", "{", {}),
        ("json", "[" * 100_000, {}),
        ("json", body(id="../../etc/passwd"), {}),
        ("json", body(id=7), {}),
        ("json", body(surprise=1), {}),
        ("json", json.dumps({"id": ID}), {}),
        ("json", body(args={"text": "x" * LARGEST_BODY}), {}),
        ("json", "\ud800", {}),
        ("verb", body("exec"), {}),
        ("verb", body("sync"), {"able": frozenset(READS)}),
        ("args", body("hold", args={"minutes": 5}), {}),
        ("args", body("plan", args={"shell": "sh"}), {}),
        ("nodes", body(nodes=["node-b"]), {}),
        ("nodes", body(nodes=[]), {}),
        ("nodes", body(hub="x" * 43), {}),
        ("nodes", body("sync", hub=""), {"signer": "anna"}),
        ("taken", body("sync", hub=None), {}),
        ("taken", body("plan", hub=None), {"mode": Mode.SIGNED, "signer": "anna"}),
        ("signature", body("sync", hub=None), {"mode": Mode.SIGNED, "signer": "anna"}),
        ("deadline", body(), {"now": 1600.0}),
        ("deadline", body(deadline=4601.0), {}),
        ("deadline", body(deadline=1000.0), {}),
        ("deadline", body(issued=1400.0), {}),
        ("id", body(), {"known": digest(body("status"))}),
        ("policy", body("sync"), {"mode": Mode.READ_ONLY, "signer": "anna"}),
        ("signature", body("sync"), {"mode": Mode.SIGNED}),
        ("lock", body("sync"), {"changing": "other"}),
        ("lock", body("plan"), {"reading": 4, "waiting": 16}),
        ("taken", body("plan"), {"reading": 4, "waiting": 15}),
        ("taken", body("plan"), {"changing": "other"}),
        ("taken", body("sync"), {"reading": 4, "waiting": 16}),
        ("taken", body(), {"known": digest(body())}),
    ],
)
def test_each_check_has_its_name(expected: str, text: str, changed: dict[str, Any]) -> None:
    made = judged(text, **changed)
    assert check(made) == expected
    if isinstance(made, Refusal):
        assert made.faults and all(str(fault) for fault in made.faults)
        assert made.id == ("" if expected == "json" else ID)


def test_the_checks_come_in_one_order() -> None:
    """Everything is wrong; then one wrong after the other is put right."""
    wrong: dict[str, Any] = {"nodes": ["b"], "deadline": 1.0, "args": {"minutes": 0}}
    state: dict[str, Any] = {
        "able": frozenset[str](),
        "known": "other",
        "mode": Mode.READ_ONLY,
        "changing": "x",
        "signer": Unsigned("no"),
    }
    seen = [check(judged("{", **state))]
    steps: list[Any] = [
        lambda: None,
        lambda: state.pop("able"),
        lambda: wrong.pop("args"),
        lambda: wrong.pop("nodes"),
        lambda: wrong.pop("deadline"),
        lambda: state.pop("known"),
        lambda: state.update(mode=Mode.SIGNED),
        lambda: state.update(signer="anna"),
        lambda: state.pop("changing"),
    ]
    for step in steps:
        step()
        seen.append(check(judged(body("hold", **wrong), **state)))
    order = ["json", "verb", "args", "nodes", "deadline", "id", "policy", "signature", "lock", "taken"]
    assert seen == order


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("signed", [True, False])
def test_who_may_change_a_node(verb: str, mode: Mode, signed: bool) -> None:
    made = judged(body(verb), mode=mode, signer="anna" if signed else Unsigned("it is unsigned"))
    if verb in READS:
        assert check(made) == "taken"
    else:
        expected = {Mode.READ_ONLY: "policy", Mode.SIGNED: "taken" if signed else "signature", Mode.HUB: "taken"}
        assert check(made) == expected[mode]
    if isinstance(made, Order):
        assert made.signer == ("anna" if signed and verb in CHANGES else "")


def test_all_faults_of_arguments_are_named_at_once() -> None:
    made = judged(body("config.put", args={"text": 5, "confirm_within": 10, "x\n": 1}))
    assert isinstance(made, Refusal)
    places = [fault.place for fault in made.faults]
    assert places == ["args.text", "args.base", "args.confirm_within", "args.x\n"]


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("logs", {"unit": "sshd"}),
        ("logs", {"unit": "../x"}),
        ("logs", {"unit": "kubelet", "lines": 5001}),
        ("logs", {"unit": "kubelet", "follow": 601}),
        ("logs", {"unit": "kubelet", "lines": True}),
        ("hold", {"reason": "", "minutes": 1}),
        ("hold", {"reason": "x", "minutes": 1441}),
        ("config.put", {"text": "x" * 65537, "base": 1}),
        ("config.put", {"text": "", "base": 1, "confirm_within": 901}),
        ("config.confirm", {"command": "1"}),
        ("manifest.put", {"name": "../etcd", "text": ""}),
        ("manifest.put", {"name": "web", "text": "x" * 65537}),
        ("manifest.remove", {"name": "-"}),
        ("rollback", {}),
        ("rollback", {"revision": 1, "command": ID}),
        ("config.get", {"revision": 0}),
        ("config.get", {"revision": 1.5}),
    ],
)
def test_arguments_beyond_their_bounds_are_faults(verb: str, args: dict[str, Any]) -> None:
    read = read_arguments(VERBS[verb], args)
    assert not isinstance(read, Arguments) and read


@given(st.text(alphabet='"\\\n\x01aé😀', max_size=20_000))
def test_every_body_that_a_node_would_read_fits_into_a_frame(text: str) -> None:
    made = body("config.put", args={"text": text, "base": 1})
    if not isinstance(read_body(made), Refusal):
        sent = Send(made, "anna", "anna", "A" * 88)
        assert from_hub(encode(sent)) == sent


def test_the_worst_body_fits_into_a_frame() -> None:
    full = '"' * LARGEST_BODY
    assert from_hub(encode(Send(full, "x" * 63, "x" * 63, "A" * 88))) == Send(full, "x" * 63, "x" * 63, "A" * 88)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.dictionaries(st.text(), one))
)
def test_no_arguments_break_the_checks(value: Any) -> None:
    for verb in VERBS.values():
        given_ = (
            value if isinstance(value, dict) else {"text": value, "unit": value, "minutes": value, "revision": value}
        )
        read = read_arguments(verb, given_)
        assert isinstance(read, Arguments) or all(isinstance(one, Fault) for one in read)


# --- the policy's file ---

KEY = base64.b64encode(b"k" * 32).decode()


def test_without_a_file_a_node_is_read_only() -> None:
    assert read_policy(None, "f") == Policy(Mode.READ_ONLY, {})
    assert situation().mode is Mode.HUB


def test_a_policy_lists_keys_by_name() -> None:
    assert read_policy({"policy": "signed", "keys": {"anna": KEY}}, "f") == Policy(Mode.SIGNED, {"anna": b"k" * 32})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "Expected `object`"),
        ({"policy": "open"}, "open"),
        ({"polcy": "signed"}, "polcy"),
        ({"policy": "signed"}, "allows nobody"),
        ({"keys": {"Anna": KEY}}, "lower-case"),
        ({"keys": {"anna": "AAAA"}}, "32 bytes"),
        ({"keys": {"anna": "é"}}, "32 bytes"),
        ({"policy": True}, "bool"),
        ({"manifests": "etc/kubernetes"}, "an absolute path"),
    ],
)
def test_a_policy_that_can_t_be_read_is_no_policy(value: object, message: str) -> None:
    faults = read_policy(value, "nokubelet.yaml")
    assert not isinstance(faults, Policy) and message in "\n".join(map(str, faults))


def test_a_signature_counts_for_a_listed_key_alone() -> None:
    policy = Policy(Mode.SIGNED, {"anna": b"k" * 32})
    assert signing_key(policy, "anna", base64.b64encode(b"s" * 64).decode()) == ("anna", b"k" * 32, b"s" * 64)
    for name, signature, reason in (
        (None, None, "unsigned"),
        ("anna", None, "unsigned"),
        ("bob", "AAAA", "isn't listed"),
        ("anna", "*", "base64"),
    ):
        made = signing_key(policy, name, signature)
        assert isinstance(made, Unsigned) and reason in made.reason
