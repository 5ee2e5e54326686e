"""Reads and validates the configuration; reports all faults at once, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from protokube.config.keys import FILE_ONLY
from protokube.config.node import node_config
from protokube.config.options import OPTIONS, Value, from_arguments, from_environment, from_file
from protokube.core.located import Located, Section, parse
from protokube.core.model import Fault
from protokube.core.settings import NodeConfig
from protokube.errors import ConfigError, UsageError

DEFAULT_CONFIG = "etc/protokube/config.yaml"
DEFAULT_INVENTORY = "etc/protokube/inventory.yaml"


class Settings(Struct, frozen=True):
    """The whole configuration: `node` for decisions, the rest for the wiring.

    Paths here are real paths. `cloud`, `dns` and `node_name` are None when they are to be found out. `interval` and
    `timeout` are seconds; on a converged node records are read in one of `records_every` reconciles.
    `prove_every_byte`: a disk is read whole before it is formatted.
    """

    node: NodeConfig
    root: str
    once: bool
    dry_run: bool
    cloud: str | None
    inventory: str
    node_name: str | None
    dns: str | None
    dns_zone: str | None
    dns_server: str | None
    dns_keyfile: str | None
    interval: float
    timeout: float
    output: str
    detailed_exitcode: bool
    verbose: bool
    log_format: str
    records_every: int
    imds_v1: bool
    prove_every_byte: bool
    store: str | None = None
    store_key: str | None = None


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, list[Fault]]:
    """Read command line, environment, file and templates: the settings, and every fault in them. The faults of
    kubelet's own settings stand with these.

    A faulty value reads as its default, so that the other faults are found as well. Raises UsageError, and
    ConfigError when the file can't be read at all, since its values can't be checked then.
    """
    given = from_arguments(arguments)
    faults: list[Fault] = []
    surroundings = from_environment(environment, faults)
    for name, source in (("--root", given), ("PROTOKUBE_ROOT", surroundings)):
        if source.get("root") == "":  # a variable that a script forgot to set must not mean this machine
            raise UsageError(f"{name}: expected a directory, got an empty text; / is this machine's root")
    root = str(given.get("root") or surroundings.get("root") or "/")
    named = given.get("config") or surroundings.get("config")
    path = Path(str(named)) if named else Path(root, DEFAULT_CONFIG)
    section = _read_file(path, faults) if named or path.exists() else Section.nothing(faults)
    file_values = from_file(section.items, faults)
    values: dict[str, Value | None] = {option.name: option.default for option in OPTIONS}
    values |= file_values | surroundings | given
    return _settings(values, section, root, faults), faults


def check(document: Located, faults: list[Fault]) -> None:
    """Check a configuration that stands inside another document, by the rules of its file.

    A template directory that it names is not looked at: it is the node's, and this may be another machine.
    """
    section = Section.of(document, _known_keys(), faults)
    values: dict[str, Value | None] = {option.name: option.default for option in OPTIONS}
    values |= {name: value for name, value in from_file(section.items, faults).items() if name != "template-dir"}
    node = _settings(values, section, "/", faults).node
    faults += (*node.kubelet.faults, *(node.components.faults if node.components is not None else ()))


def _known_keys() -> list[str]:
    return [option.key for option in OPTIONS if option.in_file] + list(FILE_ONLY)


def _read_file(path: Path, faults: list[Fault]) -> Section:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([*faults, Fault(str(path), f"can't be read: {reason}; expected a YAML file")]) from error
    if not text.strip():
        return Section.nothing(faults)
    document, found = parse(text, str(path))
    faults += found
    if document is None:
        raise ConfigError(faults)
    return Section.of(document, _known_keys(), faults)


def _settings(values: Mapping[str, Value | None], section: Section, root: str, faults: list[Fault]) -> Settings:
    def text(name: str) -> str | None:
        value = values[name]
        return None if value is None else str(value)

    def number(name: str) -> float:
        value = values[name]
        assert isinstance(value, float)
        return value

    dns = {"aws-route53": "route53"}.get(text("dns") or "", text("dns"))
    if number("interval") <= 0:
        faults.append(Fault("--interval", "0 where at least a moment was expected"))
    return Settings(
        node=node_config(values, section, faults),
        root=root,
        once=bool(values["once"]),
        dry_run=bool(values["dry-run"]),
        cloud=text("cloud"),
        inventory=text("inventory") or str(Path(root, DEFAULT_INVENTORY)),
        node_name=text("node"),
        dns=dns,
        dns_zone=text("dns-zone-name"),
        dns_server=text("dns-server"),
        dns_keyfile=text("dns-tsig-keyfile"),
        interval=number("interval"),
        timeout=number("timeout"),
        output=str(values["output"]),
        detailed_exitcode=bool(values["detailed-exitcode"]),
        verbose=bool(values["verbose"]),
        log_format=str(values["log-format"]),
        records_every=section.count("dnsReadEvery", 5),
        imds_v1=section.flag("imdsV1"),
        prove_every_byte=values["prove-blank"] == "full",
        store=text("store"),
        store_key=text("store-key"),
    )
