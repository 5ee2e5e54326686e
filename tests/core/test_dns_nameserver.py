"""How an operator names a server and its key."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.dns.nameserver import TsigKey, parse_keyfile, parse_server
from protokube.core.model import Fault

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.53", ("10.0.0.53", 53)),
        ("10.0.0.53:5353", ("10.0.0.53", 5353)),
        ("ns.example.com", ("ns.example.com", 53)),
        ("ns.example.com:54", ("ns.example.com", 54)),
        ("::1", ("::1", 53)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("fe80::1%eth0", ("fe80::1%eth0", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:53", ("::1", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_servers(text: str, expected: tuple[str, int]) -> None:
    assert parse_server(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":53", "host:", "host:dns", "host:0", "host:65536", "[::1", "::1]:53", "[::1]x", "[]:53", "a b"]
)
def test_bad_servers_are_named(text: str) -> None:
    fault = parse_server(text)
    assert isinstance(fault, Fault)
    assert repr(text) in fault.message


@given(st.text(max_size=30))
def test_any_text_is_a_server_or_a_fault(text: str) -> None:
    parsed = parse_server(text)
    assert isinstance(parsed, Fault) or (parsed[0] and 0 < parsed[1] < 65536)


@pytest.mark.parametrize(
    "text",
    [
        f'key "protokube" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n',
        f"key protokube {{ secret {SECRET}; algorithm HMAC-SHA256; }};",
        f'# made by hand\nkey "protokube" {{ // who\n /* what */ algorithm hmac-sha256; secret "{SECRET}"; }};',
    ],
)
def test_keys_in_binds_format(text: str) -> None:
    assert parse_keyfile(text, "k") == TsigKey("protokube", "hmac-sha256", SECRET)


def test_a_secret_with_slashes_is_no_comment() -> None:
    secret = "//" + SECRET[2:]
    key = parse_keyfile(f'key "k" {{ algorithm hmac-sha512; secret "{secret}"; }};', "k")
    assert key == TsigKey("k", "hmac-sha512", secret)


def test_a_key_never_shows_its_secret() -> None:
    assert SECRET not in repr(TsigKey("protokube", "hmac-sha256", SECRET))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no key"),
        (f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; }};' * 2, "2 keys"),
        (f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; }}; options {{}};', "nothing else"),
        (f'key "a" {{ secret "{SECRET}"; }};', "an algorithm and a secret"),
        ('key "a" { algorithm hmac-sha256; };', "an algorithm and a secret"),
        (f'key "a" {{ algorithm hmac-md5; secret "{SECRET}"; }};', "too weak"),
        (f'key "a" {{ algorithm hmac-sha1; secret "{SECRET}"; }};', "too weak"),
        (f'key "a" {{ algorithm hmac-sha224; secret "{SECRET}"; }};', "too weak"),
        (f'key "a" {{ algorithm rot13; secret "{SECRET}"; }};', "not known"),
        ('key "a" { algorithm hmac-sha256; secret "no base64!"; };', "base64"),
        ('key "a" { algorithm hmac-sha256; secret ""; };', "empty"),
    ],
)
def test_bad_keys_are_explained(text: str, problem: str) -> None:
    fault = parse_keyfile(text, "/etc/k.key")
    assert isinstance(fault, Fault)
    assert fault.place == "/etc/k.key"
    assert problem in fault.message
    assert SECRET not in fault.message
