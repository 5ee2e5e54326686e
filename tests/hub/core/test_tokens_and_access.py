"""Names, tokens and routes: who is let in, and as whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protokube.core.model import Fault
from protokube.hub.core.access import ROUTES, may, of_a_page
from protokube.hub.core.names import Identity, identity_of, is_id, is_name
from protokube.hub.core.tokens import (
    KeptToken,
    Token,
    TokenRefused,
    TokenTaken,
    counted,
    digest,
    judge_token,
    make_token,
    read_token,
)

TOKEN = make_token(b"12345", b"0123456789abcdef", b"p" * 32)
KEPT = KeptToken(TOKEN.id, digest(TOKEN.secret), "node-a", ("edge",), expires=1000.0)


@pytest.mark.parametrize("name", ["a", "node-a", "ip-10-0-1-5.eu.internal", "1", "x" * 63])
def test_names_are_dns_labels(name: str) -> None:
    assert is_name(name)
    identity = Identity("hub.example", "node", name)
    assert identity_of(identity.uri()) == identity


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a..b", "../a", "a/b", "a b", "a\n", "é", "x" * 64])
def test_what_could_be_a_path_or_another_name_is_no_name(name: str) -> None:
    assert not is_name(name)
    assert identity_of(f"protokube://hub/node/{name}") is None


@pytest.mark.parametrize(
    "uri", ["protokube://hub/admin/a", "spiffe://hub/node/a", "protokube://hub/node/a/b", "", "a"]
)
def test_other_uris_speak_for_nobody(uri: str) -> None:
    assert identity_of(uri) is None


def test_ids_are_uuids_in_lower_case() -> None:
    assert is_id("0d6e0c5e-3a3c-4d3f-9f39-3f0a4a4e9d10")
    assert not is_id("0D6E0C5E-3A3C-4D3F-9F39-3F0A4A4E9D10")
    assert not is_id("../0d6e0c5e-3a3c-4d3f-9f39-3f0a4a4e9d1")
    assert not is_id("0d6e0c5e-3a3c-4d3f-9f39-3f0a4a4e9d10\n")


@given(st.binary(min_size=5, max_size=5), st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_a_token_is_read_as_it_was_made(id_bytes: bytes, secret: bytes, pin: bytes) -> None:
    token = make_token(id_bytes, secret, pin)
    text = token.text()
    assert read_token(f" {text}\n") == token
    kind, name, hidden, pinned = text.split(".")
    assert (kind, len(name), len(hidden), len(pinned)) == ("nk1", 8, 26, 43)


@given(st.text())
def test_no_other_text_is_a_token_and_a_fault_tells_no_secret(text: str) -> None:
    read = read_token(text)
    assert isinstance(read, Fault)
    assert len(text) < 6 or text not in str(read)


def test_a_token_s_secret_is_in_no_log_and_not_in_the_hub() -> None:
    assert TOKEN.secret not in repr(TOKEN) and TOKEN.secret not in f"{TOKEN}"
    assert TOKEN.secret not in repr(KEPT)
    assert isinstance(read_token(TOKEN.text()[:-1]), Fault)


def judged(
    kept: KeptToken | None = KEPT,
    secret: str = TOKEN.secret,
    node: str = "node-a",
    key: str = "k1",
    now: float = 999.0,
) -> TokenTaken | TokenRefused:
    return judge_token(kept, secret, node, key, now)


def test_a_token_enrols_its_node_once_and_the_same_key_again() -> None:
    assert judged() == TokenTaken(again=False)
    used = structs.replace(KEPT, used_by="k1")
    assert judged(used) == TokenTaken(again=True)
    again = judged(used, key="k2")
    assert isinstance(again, TokenRefused) and again.status == 409 and "used already" in again.reason


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (judged(None), "doesn't know"),
        (judged(now=1000.0), "expired 0 s ago"),
        (judged(node="node-b"), "it is for node node-a"),
        (judged(secret="a" * 26), "wrong secret; 4 tries are left"),
    ],
)
def test_each_refusal_says_why(refused: TokenTaken | TokenRefused, reason: str) -> None:
    assert isinstance(refused, TokenRefused) and reason in refused.reason
    assert refused.counts == ("wrong secret" in reason)


def test_who_doesn_t_know_the_secret_learns_nothing_of_a_token() -> None:
    for now, node in ((2000.0, "node-a"), (0.0, "node-b")):
        refused = judged(secret="a" * 26, node=node, now=now)
        assert isinstance(refused, TokenRefused) and refused.reason.startswith(f"token {TOKEN.id}: wrong secret")


def test_five_wrong_secrets_void_a_token() -> None:
    kept = KEPT
    for _ in range(5):
        refused = judged(kept, secret="b" * 26)
        assert isinstance(refused, TokenRefused) and refused.counts
        kept = counted(kept)
    refused = judged(kept)
    assert isinstance(refused, TokenRefused) and "void after 5" in refused.reason and not refused.counts


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_every_route_is_for_one_role(method: str, route: str) -> None:
    def passes(shown: Identity | None) -> bool:
        return may("hub", method, route, shown) is None

    node, operator = Identity("hub", "node", "a"), Identity("hub", "operator", "a")
    expected = {"anyone": (True, True, True), "node": (False, True, False), "operator": (False, False, True)}
    assert (passes(None), passes(node), passes(operator)) == expected[ROUTES[method, route]]
    if ROUTES[method, route] != "anyone":
        assert not passes(structs.replace(node, hub="other")) and not passes(structs.replace(operator, hub="other"))


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Sec-Fetch-Site": "none"}, None),  # the page, looked at
        ("POST", {"Content-Type": "application/json"}, None),
        ("POST", {"Content-Type": "application/json; charset=utf-8"}, None),
        ("POST", {"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
        ("POST", {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {}, 415),
    ],
)
def test_a_web_page_changes_nothing(method: str, headers: dict[str, str], status: int | None) -> None:
    denied = of_a_page(method, headers)
    assert (None if denied is None else denied.status) == status


def test_what_isn_t_listed_is_for_nobody() -> None:
    denied = may("hub", "DELETE", "/v1/audit", Identity("hub", "operator", "a"))
    assert denied is not None and denied.status == 404
    assert isinstance(TOKEN, Token)
