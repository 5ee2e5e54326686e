"""The kinds of value and the forms of text that only the control plane's components have."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.component.forms import Form
from protokube.core.component.values import Kind, wrong

_PATH = r"(/(?!\.{1,2}(/|$))[\x21-\x2b\x2d-\x2e\x30-\x39\x3b-\x7e]+)+"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_V4 = rf"{_OCTET}(\.{_OCTET}){{3}}"
_V6 = r"[0-9a-fA-F:]*:[0-9a-fA-F:.]*"
_CIDR = rf"{_V4}/(3[0-2]|[12]?[0-9])|{_V6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"

FORMS: Mapping[str, Form] = {
    "https": (r"https://[^\s/]+(/[^\s]*)?", "an https URL"),
    "urlPath": (r"/[^\s*]*", "a path of the API such as /livez"),
    "urlPattern": (r"\*|/[^\s*]*\*?", "a path of the API such as /metrics or /healthz*, or *"),
    "subdomain": (r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a name in lower case such as corporate.example.com"),
    "sniCertKey": (rf"{_PATH},{_PATH}(:[^\s:]+)?", "CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME"),
    "log": (rf"-|{_PATH}", "an absolute path, or - for the standard output"),
    "portRange": (rf"{_PORT}-{_PORT}|{_PORT}\+[0-9]{{1,5}}|{_PORT}", "ports like 30000-32767"),
    "portRangeOrNone": (rf"0-0|{_PORT}-{_PORT}|{_PORT}\+[0-9]{{1,5}}|{_PORT}", "ports like 30000-32767, or 0-0"),
    "cacheSize": (r"[a-z0-9.-]+#[0-9]+", "RESOURCE#SIZE such as pods#500"),
    "host": (r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name"),
    "address": (rf"{_V4}|{_V6}", "an IP address"),
    "port": (_PORT, "a port"),
    "hostport": (rf"({_V4}|\[{_V6}\]):{_PORT}", "ADDRESS:PORT"),
    "cidr": (_CIDR, "a range of addresses like 10.0.0.0/8"),
    "nodePorts": (rf"primary|{_CIDR}", "a range of addresses like 10.0.0.0/8, or primary"),
    "hsts": (r"max-age=[0-9]+|includeSubDomains|preload", "max-age=SECONDS, includeSubDomains or preload"),
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise wrong(value, "text")
    return value


KINDS: Mapping[str, Kind] = {"text": Kind(_text)}
"""`text` may hold line breaks: a certificate, an expression."""
