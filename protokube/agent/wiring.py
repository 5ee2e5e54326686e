"""From options to a provider, sources and a reporter. Libraries are loaded for what was chosen alone."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from protokube.agent.clock import wall_time
from protokube.agent.http.kubeconfig import KubeConfig
from protokube.agent.http.webconfig import read_config
from protokube.agent.options import Options
from protokube.agent.ports import Provider, Runtime, Source
from protokube.agent.providers.local import LocalProvider
from protokube.agent.records import Records
from protokube.agent.reporters.file import FileReporter
from protokube.agent.sources.files import FileSource
from protokube.agent.sources.url import UrlSource
from protokube.agent.volumes import Volumes
from protokube.core.model import Fault
from protokube.errors import ConfigError, ProviderError
from protokube.host.network import default_addresses

if TYPE_CHECKING:
    from protokube.agent.apiside import ApiSide

GROUP = "protokube.providers"
"""The entry points of providers from other packages."""
RUN_DIR = "run/protokube/agent"


def make_provider(options: Options) -> Provider:
    """The provider that was chosen. Raises ConfigError for one that can't be made."""
    if options.provider in _BUILT_IN:
        return _BUILT_IN[options.provider](options)
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name == options.provider:
            return _made(entry.load(), options)
    module, colon, name = options.provider.partition(":")
    if not colon:
        known = ", ".join([*_BUILT_IN, *sorted(one.name for one in importlib.metadata.entry_points(group=GROUP))])
        expected = f"one of {known} or module:Class was expected"
        raise ConfigError([Fault("--provider", f"{expected}, got {options.provider!r}")])
    try:
        return _made(getattr(importlib.import_module(module), name), options)
    except (ImportError, AttributeError) as error:
        raise ConfigError([Fault("--provider", f"{options.provider}: {error}")]) from error


def make_sources(options: Options) -> Sequence[Source]:
    """The sources that were asked for."""
    sources: list[Source] = [FileSource(options.manifest_dir, options.node)]
    if options.manifest_url is not None:
        sources.append(UrlSource(options.manifest_url, options.node, options.headers))
    return sources


def make_reporter(options: Options) -> FileReporter:
    """Where reports go."""
    return FileReporter(reports(options))


def make_side(config: KubeConfig, options: Options, provider: Provider) -> ApiSide:
    """The API server's side. Raises ConfigError when aiohttp is missing."""
    try:
        from protokube.agent.apiside import make_api_side  # loads aiohttp
    except ModuleNotFoundError as error:
        fault = f"{error.name} is missing, which an API server needs; pip install 'protokube[agent]', or --standalone"
        raise ConfigError([Fault("virtual-kubelet", fault)]) from error
    return make_api_side(config, options, provider, host_ip())


def reports(options: Options) -> Path:
    """The directory of reports."""
    return options.root / RUN_DIR / "pods"


def records(options: Options) -> Records:
    """What is kept of local pods."""
    return Records(options.state_dir / "pods")


def _local(runtime: Runtime, options: Options) -> LocalProvider:
    volumes = Volumes(options.root, options.state_dir / "volumes", options.root / RUN_DIR / "volumes")
    return LocalProvider(runtime, records(options), volumes, boot=boot(), host_ip=host_ip)


def _systemd(options: Options) -> Provider:
    from protokube.agent.runtimes.systemd import SystemdRuntime

    return _local(SystemdRuntime(options.root / RUN_DIR / "environments"), options)


def _podman(options: Options) -> Provider:
    from protokube.agent.runtimes.podman import PodmanRuntime

    return _local(PodmanRuntime(), options)


def _process(options: Options) -> Provider:
    from protokube.agent.runtimes.process import ProcessRuntime

    return _local(ProcessRuntime(options.root, options.root / RUN_DIR / "containers", wall_time), options)


def _memory(_: Options) -> Provider:
    from protokube.agent.providers.memory import MemoryProvider

    return MemoryProvider()


def _web(options: Options) -> Provider:
    config = read_config(_provider_config(options), os.environ, options.provider_config or "--provider-config")
    from protokube.agent.providers.web import WebProvider

    return WebProvider(config)


def _provider_config(options: Options) -> Mapping[str, object]:
    """The provider's configuration file: YAML, or TOML by its suffix. Raises ConfigError."""
    path = options.provider_config
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = tomllib.loads(text) if path.endswith(".toml") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Fault(path, str(error))]) from error
    if not isinstance(value, dict):
        raise ConfigError([Fault(path, f"a map was expected, got {value!r}")])
    return value


_BUILT_IN: dict[str, Callable[[Options], Provider]] = {
    "memory": _memory,
    "podman": _podman,
    "process": _process,
    "systemd": _systemd,
    "web": _web,
}
LOCAL = ("podman", "process", "systemd")
"""Those whose pods are kept in records."""


def _made(kind: Any, options: Options) -> Provider:
    """A provider of another package: called with the configuration file's path when it takes an argument."""
    if not callable(kind):
        raise ConfigError([Fault("--provider", f"{options.provider}: a class was expected")])
    takes = [one for one in inspect.signature(kind).parameters.values() if one.default is one.empty]
    provider: Provider = kind(options.provider_config) if takes else kind()
    return provider


def boot() -> str:
    """What tells this boot from any other: in a container its first process tells, not the kernel's id alone."""
    started = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}-{started}"


def host_ip() -> str:
    """The address at which this machine is reached; empty when it has none yet."""
    try:
        return next(iter(default_addresses()), "")
    except ProviderError:
        return ""
