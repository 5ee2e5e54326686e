"""The forms of text that several components know, each a pattern and its meaning; others are a component's own."""

from __future__ import annotations

from collections.abc import Mapping

Form = tuple[str, str]

_SCHEMED = r"(?:dns|unix|unix-abstract):"

FORMS: Mapping[str, Form] = {
    "bool": (r"1|t|T|TRUE|true|True|0|f|F|FALSE|false|False", "true or false"),
    "path": (r"/|(/(?!\.{1,2}(/|$))[\x21-\x2e\x30-\x7e ]+)+", "an absolute path in ASCII, without //, . and .."),
    # Of traces (component-base/tracing) and of logs (klog).
    "endpoint": (rf"(?!.*//)[^\s]*|{_SCHEMED}[^\s]*", "HOST:PORT, or an address with dns, unix or unix-abstract"),
    "pattern": (r"[^=,]+", "a file's pattern without '=' and ','"),
    "vmodule": (r"[^=,]+=[0-9]+(,[^=,]+=[0-9]+)*", "PATTERN=N,…"),
    "trace": (r"[^:.]+\.[^:]*:[1-9][0-9]*", "FILE.go:LINE"),
    "severity": (r"(?i:info|warning|error|fatal)|[0-9]+", "INFO, WARNING, ERROR, FATAL or a number"),
}
