"""The API's rules for names: of objects, and of labels and taints."""

from __future__ import annotations

import re

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


def is_subdomain(text: str) -> bool:
    """Whether it is an RFC 1123 subdomain, as the names of most objects must be; the length is another matter."""
    return re.fullmatch(_SUBDOMAIN, text) is not None


def is_label_key(text: str) -> bool:
    """Whether the API takes it as the key of a label or taint: `rack`, `example.com/rack`."""
    namespace, slash, name = text.rpartition("/")
    right = not slash or (len(namespace) <= 253 and is_subdomain(namespace))
    return right and re.fullmatch(_LABEL_NAME, name) is not None


def is_label_value(text: str) -> bool:
    """Whether the API takes it as the value of a label or taint."""
    return not text or re.fullmatch(_LABEL_NAME, text) is not None
