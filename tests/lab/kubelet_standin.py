"""A stand-in for kubelet, as strict as the real one about what it is started with, and otherwise idle.

Run it as `kubelet` (see `kubelet_script`) or with `check()` in a test. It reads its argv as pflag does and the
file of --config as strict JSON decoding does, and exits 1 with the reason on anything unknown or wrong: an
unknown flag or field, a value of the wrong type, a key given twice, labels that kubelet may not give itself, a
kubeconfig that isn't there, webhooks without an API server to ask. Then it tells systemd READY=1, appends a line
of JSON ({"argv": […], "config": {…}}) to the file named by KUBELET_STANDIN_RECORD, and waits for SIGTERM.
KUBELET_STANDIN_VERSION (1.36.2) says which kubelet it is; `--version` and `--help` answer as that one's do.

What each version knows is protokube's own table; how values are read is written here anew, from Go's rules.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from protokube.core.kubelet.table import TABLE  # noqa: E402 - after sys.path, since this runs as a script too
from tests.lab import inside  # noqa: E402

VERSIONS = ("1.20.2", "1.36.2")
_PART = r"(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_INTS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_SELF_LABELS = """kubernetes.io/hostname kubernetes.io/os kubernetes.io/arch beta.kubernetes.io/os
    beta.kubernetes.io/arch beta.kubernetes.io/instance-type topology.kubernetes.io/zone topology.kubernetes.io/region
    failure-domain.beta.kubernetes.io/zone failure-domain.beta.kubernetes.io/region"""


class RefusedError(Exception):
    """Kubelet would exit 1 with this text."""


class Row(NamedTuple):
    name: str
    kind: str
    flag: str
    letter: str


def rows(version: str) -> list[Row]:
    """What this version knows: a flag, a field of the file, or both."""
    column = VERSIONS.index(version)
    found = []
    for line in TABLE.split("\n"):
        if line:
            name, kind, flag, letters = line.split(" # ")[0].split()[:4]
            found.append(Row(name, kind, flag, letters[column]))
    return [row for row in found if row.letter != "."]


# --- argv, as pflag reads it ---------------------------------------------------------------------------


def parse_argv(argv: Sequence[str], version: str) -> dict[str, Any]:
    """Flag → value; a map given twice is merged, anything else is overwritten."""
    known = {row.flag: row.kind for row in rows(version) if row.letter in "bfdl" and row.flag != "-"}
    result: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise RefusedError(f'unknown command "{word}"')
        name, equals, text = word[2:].partition("=")
        if name not in known:
            raise RefusedError(f"unknown flag: --{name}")
        if not equals:
            if known[name] == "bool":
                text = "true"
            elif words:
                text = words.pop(0)
            else:
                raise RefusedError(f"flag needs an argument: --{name}")
        try:
            value = flag_value(known[name], text)
        except ValueError as error:
            raise RefusedError(f'invalid argument "{text}" for "--{name}" flag: {error}') from error
        result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
    return result


def flag_value(kind: str, text: str) -> Any:
    if kind == "bool":
        return _bool(text)
    if kind in _INTS:
        low, high = _INTS[kind]
        if not re.fullmatch(r"[+-]?\d+", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError("parsing: invalid syntax or value out of range")
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "duration":
        return _duration(text)
    if kind in ("quantity", "size"):
        return _quantity(text)
    if kind == "ip":
        return str(ipaddress.ip_address(text.strip()))
    if kind in ("strings", "ips", "int32s"):
        return next(csv.reader([text])) if text else []
    if kind == "taints":
        return [_taint(item) for item in text.split(",")] if text else []
    if kind == "headers":
        return dict(_pair(item, ":") for item in text.split(",")) if text else {}
    if kind in ("map", "labels", "quantities", "percents", "periods", "reclaims", "thresholds", "gates"):
        between = "<" if kind == "thresholds" else "="
        pairs = [_pair(item, between) for item in text.split(",") if item]
        return {key: _bool(value) if kind == "gates" else value for key, value in pairs}
    if "|" in kind and text and text not in kind.split("|"):
        raise ValueError(f"not one of {kind}")
    return text


def _bool(text: str) -> bool:
    words = {"1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
             "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False}  # fmt: skip
    if text not in words:
        raise ValueError("parsing: invalid syntax")
    return words[text]


def _duration(text: str) -> float:
    """Seconds."""
    if text.lstrip("+-") == "0":
        return 0.0
    if not re.fullmatch(rf"[+-]?({_PART})+", text, re.ASCII):
        raise ValueError(f'time: invalid duration "{text}"')
    sizes = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
    total = math.fsum(float(number) * sizes[unit] for number, _, unit in re.findall(_PART, text, re.ASCII))
    if total > (2**63 - 1) / 1e9:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def _quantity(text: str) -> str:
    if not _QUANTITY.fullmatch(text):
        raise ValueError("quantities must match the regular expression")
    return text


def _pair(item: str, between: str) -> tuple[str, str]:
    key, found, value = item.partition(between)
    if not found:
        raise ValueError(f"malformed pair, expect string{between}string")
    return key.strip(), value.strip()


def _taint(item: str) -> dict[str, str]:
    head, _, effect = item.rpartition(":")
    if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute") or not head:
        raise ValueError(f"invalid taint spec: {item}")
    key, _, value = head.partition("=")
    return {"key": key, "value": value, "effect": effect}


# --- the file, as strict decoding reads it -------------------------------------------------------------


class _Strict(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise RefusedError(f"strict decoding error: a key is given twice among {keys}")
        return super().construct_mapping(node, deep)


def parse_config(text: str, version: str) -> dict[str, Any]:
    """The file's fields, checked."""
    tree = yaml.load(text, _Strict)
    if not isinstance(tree, dict):
        raise RefusedError("the configuration file holds no object")
    if (tree.pop("apiVersion", None), tree.pop("kind", None)) != (
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
    ):
        raise RefusedError("no kind KubeletConfiguration of version kubelet.config.k8s.io/v1beta1")
    known = {row.name: row.kind for row in rows(version) if row.letter in "bcl" or "[]" in row.name}
    _walk(tree, "", known)
    return tree


def _walk(tree: dict[str, Any], path: str, known: dict[str, str]) -> None:
    for key, value in tree.items():
        name = f"{path}{key}"
        if name in known:
            _typed(name, known[name], value, known)
        elif any(other.startswith(f"{name}.") for other in known) and isinstance(value, dict):
            _walk(value, f"{name}.", known)
        else:
            raise RefusedError(f'strict decoding error: unknown field "{name}"')


def _typed(name: str, kind: str, value: Any, known: dict[str, str]) -> None:
    def need(right: bool, what: str) -> None:
        if not right:
            raise RefusedError(f"json: cannot unmarshal {value!r} into Go struct field {name} of type {what}")

    def texts(values: Any, check: Callable[[str], Any] = str) -> None:
        for each in values:
            need(isinstance(each, str), "string")
            check(each)

    try:
        if kind == "bool":
            need(isinstance(value, bool), kind)
        elif kind in _INTS:
            low, high = _INTS[kind]
            need(type(value) is int and low <= value <= high, kind)
        elif kind == "float":
            need(type(value) in (int, float), "float64")
        elif kind in ("duration", "quantity", "size", "ip"):
            need(isinstance(value, str), "string")
            if value or kind == "duration":
                flag_value(kind, value)
        elif kind in ("strings", "ips"):
            need(isinstance(value, list), "[]string")
            texts(value, ipaddress.ip_address if kind == "ips" else str)
        elif kind == "int32s":
            need(isinstance(value, list) and all(type(each) is int for each in value), "[]int32")
        elif kind == "gates":
            need(isinstance(value, dict) and all(type(each) is bool for each in value.values()), "map[string]bool")
        elif kind == "headers":
            need(isinstance(value, dict) and all(isinstance(each, list) for each in value.values()), kind)
            for each in value.values():
                texts(each)
        elif kind in ("objects", "taints", "reservedMemory"):
            need(isinstance(value, list) and all(isinstance(each, dict) for each in value), "[]struct")
            for each in value:
                _walk(each, f"{name}[].", known)
        elif kind in ("map", "quantities", "percents", "periods", "reclaims", "thresholds"):
            need(isinstance(value, dict), "map[string]string")
            texts(value)
            texts(value.values(), {"quantities": _quantity, "periods": _duration}.get(kind, str))
        else:
            need(isinstance(value, str), "string")
            if "|" in kind and value and value not in kind.split("|"):
                raise RefusedError(f"invalid configuration: {name} {value!r} must be one of {kind.split('|')}")
    except ValueError as error:
        raise RefusedError(f"{name}: {error}") from error


# --- what only holds together --------------------------------------------------------------------------


def check(argv: Sequence[str], version: str = VERSIONS[-1], root: Path = Path("/")) -> dict[str, Any]:
    """Everything that kubelet checks before it runs; returns its configuration file's content, or RefusedError."""
    flags = parse_argv(argv, version)
    config: dict[str, Any] = {}
    if "config" in flags:
        file = root / flags["config"].lstrip("/")
        if not file.is_file():
            raise RefusedError(f"failed to load kubelet config file {file}: no such file or directory")
        config = parse_config(file.read_text(encoding="utf-8"), version)
    for key in flags.get("node-labels", {}):
        namespace = key.rpartition("/")[0]
        ours = re.search(r"(^|\.)(kubernetes|k8s)\.io$", namespace)
        allowed = re.search(r"(^|\.)(kubelet|node)\.kubernetes\.io$", namespace) or key in _SELF_LABELS.split()
        if ours and not allowed:
            raise RefusedError(f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{key}]")
    _check_clients(flags, config, root)
    return config


def _check_clients(flags: dict[str, Any], config: dict[str, Any], root: Path) -> None:
    kubeconfig = flags.get("kubeconfig", "")
    if kubeconfig:
        if not (root / kubeconfig.lstrip("/")).is_file() and not flags.get("bootstrap-kubeconfig"):
            raise RefusedError(f"invalid kubeconfig: stat {kubeconfig}: no such file or directory")
        return
    given = "config" in flags  # its defaults are stricter than the flags'
    if config.get("authentication", {}).get("webhook", {}).get("enabled", given):
        raise RefusedError("no client provided, cannot use webhook authentication")
    if config.get("authorization", {}).get("mode", "Webhook" if given else "AlwaysAllow") == "Webhook":
        raise RefusedError("no client provided, cannot use webhook authorization")


# --- as a program --------------------------------------------------------------------------------------


def help_text(version: str) -> str:
    """What `kubelet --help` prints, in its shape; the texts of the flags are short."""
    lines = []
    for row in sorted(rows(version), key=lambda row: row.flag):
        if row.letter in "bfdl" and row.flag != "-":
            short = {"v": "-v, ", "help": "-h, "}.get(row.flag, "    ")
            kind = "" if row.kind == "bool" else f" {row.kind if '|' not in row.kind else 'string'}"
            gone = " (DEPRECATED: see --config, not this flag)" if row.letter in "bd" else ""
            lines.append(f"  {short}--{row.flag}{kind}   sets {row.name}{gone}")
    head = 'The kubelet is the primary "node agent" that runs on each\nnode.\n\nUsage:\n  kubelet [flags]\n\nFlags:'
    return "\n".join([head, *lines, ""])


def kubelet_script(version: str = VERSIONS[-1], record: str = "/run/kubelet-argv.jsonl") -> str:
    """The text of an executable /usr/bin/kubelet that is this stand-in, for a node (see `inside`)."""
    return (
        "#!/bin/sh\n"
        f"export KUBELET_STANDIN_VERSION={version} KUBELET_STANDIN_RECORD={record}\n"
        f'exec {inside.PYTHON} {inside.CHECKOUT}/tests/lab/{Path(__file__).name} "$@"\n'
    )


def notify(state: str) -> None:
    """sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.sendall(state.encode())


def main(argv: Sequence[str]) -> NoReturn:
    version = os.environ.get("KUBELET_STANDIN_VERSION", VERSIONS[-1])
    if "--version" in argv or "--version=true" in argv:
        print(f"Kubernetes v{version}")
        sys.exit(0)
    if "--help" in argv or "-h" in argv:
        print(help_text(version), end="")
        sys.exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        config = check(argv, version)
    except RefusedError as reason:
        print(f"E kubelet {version}: {reason}", file=sys.stderr)
        sys.exit(1)
    if record := os.environ.get("KUBELET_STANDIN_RECORD"):
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"argv": list(argv), "config": config}) + "\n")
    notify("READY=1")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
