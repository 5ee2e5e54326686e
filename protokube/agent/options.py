"""virtual-kubelet's command line: the original's flags of 2017, some of today's, and ours."""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from protokube.agent.apioptions import ApiOptions, read_api_options
from protokube.agent.http.webconfig import Serving
from protokube.core.model import Fault
from protokube.errors import ConfigError, UsageError

STATE_DIR = "/var/lib/protokube/agent"
MANIFEST_DIR = "/etc/kubernetes/manifests"
NODENAME = "node name ($DEFAULT_NODE_NAME; else virtual-kubelet, with --standalone the host name)"
UNUSED = "accepted, does nothing"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")


class Options(Struct, frozen=True):
    """What the command line says. Times are seconds. `headers` go with every request for `manifest_url`."""

    command: str
    provider: str
    provider_config: str | None
    node: str
    standalone: bool
    manifest_dir: Path
    manifest_url: str | None
    headers: Mapping[str, str]
    state_dir: Path
    root: Path
    workers: int
    resync: float
    forget: tuple[str, ...]
    dry_run: bool
    output: str
    verbose: bool
    log_format: str
    serving: Serving
    api: ApiOptions


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Read the command line. Raises UsageError, or ConfigError with every fault."""
    given = parser().parse_args(_joined(arguments))
    faults: list[Fault] = []
    headers = dict(_header(text, faults) for text in given.manifest_url_header)
    resync = seconds(given.full_resync_period)
    if resync is None or resync <= 0:
        faults.append(
            Fault("--full-resync-period", f"a duration such as 1m was expected, got {given.full_resync_period!r}")
        )
    if given.pod_sync_workers < 1:
        faults.append(Fault("--pod-sync-workers", f"at least 1 was expected, got {given.pod_sync_workers}"))
    for option, path in (
        ("--root", given.root),
        ("--manifest-dir", given.manifest_dir),
        ("--state-dir", given.state_dir),
    ):
        if not path.startswith("/"):
            faults.append(Fault(option, f"an absolute path was expected, got {path!r}"))
    if given.manifest_url is not None and not given.manifest_url.startswith(("http://", "https://")):
        faults.append(Fault("--manifest-url", f"http:// or https:// was expected, got {given.manifest_url!r}"))
    configured = ["file"] if given.standalone else ["file", "api"]
    configured += ["http"] if given.manifest_url is not None else []
    faults += [
        Fault("--forget-source", f"{name} is configured: remove its pods there instead")
        for name in given.forget_source
        if name in configured
    ]
    serving = _serving(given, environment, faults)
    api = read_api_options(given, environment, faults)
    if faults:
        raise ConfigError(faults)
    node = given.nodename or environment.get("DEFAULT_NODE_NAME")
    return Options(
        command=given.command,
        provider=given.provider or "",
        provider_config=given.provider_config,
        node=node or (socket.gethostname() if given.standalone else "virtual-kubelet"),
        standalone=given.standalone,
        manifest_dir=Path(given.root, given.manifest_dir.lstrip("/")),
        manifest_url=given.manifest_url,
        headers=headers,
        state_dir=Path(given.root, given.state_dir.lstrip("/")),
        root=Path(given.root),
        workers=given.pod_sync_workers,
        resync=resync or 0.0,
        forget=tuple(given.forget_source),
        dry_run=given.dry_run,
        output=given.output,
        verbose=given.verbose,
        log_format=given.log_format,
        serving=serving,
        api=api,
    )


def _serving(given: argparse.Namespace, environment: Mapping[str, str], faults: list[Fault]) -> Serving:
    listen = given.listen or f"127.0.0.1:{environment.get('PORT', '3000')}"
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        faults.append(Fault("--listen", f"ADDRESS:PORT was expected, got {listen!r}"))
        host, port = "127.0.0.1", "0"
    files = (given.token_file, given.tls_cert_file, given.tls_key_file, given.client_ca_file)
    for option, path in zip(
        ("--token-file", "--tls-cert-file", "--tls-key-file", "--client-ca-file"), files, strict=True
    ):
        if path is not None and not Path(path).is_file():
            faults.append(Fault(option, f"{path}: there is no such file"))
    if (given.tls_cert_file is None) != (given.tls_key_file is None):
        faults.append(Fault("--tls-cert-file", "it goes together with --tls-key-file; give both, or neither"))
    if given.client_ca_file is not None and given.tls_cert_file is None:
        faults.append(Fault("--client-ca-file", "it needs --tls-cert-file: without TLS nobody shows a certificate"))
    if given.command == "serve-web" and not _is_loopback(host) and not (given.token_file or given.client_ca_file):
        faults.append(
            Fault(
                "--listen", f"{host} can be reached by others; say with --token-file or --client-ca-file who may ask"
            )
        )
    return Serving(host.strip("[]"), int(port), *files)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    made = _Parser(
        prog="virtual-kubelet",
        description="Runs pods on a machine without kubelet, of files and of an API server.",
        allow_abbrev=False,
    )
    made.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=("run", "pods", "serve-web", "version", "help"),
        help="run the node's pods (default); list them; serve the provider over HTTP",
    )
    original = made.add_argument_group("as in the original")
    original.add_argument("--kubeconfig", metavar="FILE", help="config file ($KUBECONFIG, ~/.kube/config)")
    original.add_argument("--namespace", default="", help="kubernetes namespace (default: all)")
    original.add_argument("--nodename", metavar="NAME", help=NODENAME)
    original.add_argument("--os", default="Linux", metavar="OS", help="operating system (Linux/Windows)")
    original.add_argument(
        "--provider", metavar="NAME", help="systemd, podman, process, web, memory, module:Class (required)"
    )
    original.add_argument("--provider-config", metavar="FILE", help="the provider's configuration file")
    original.add_argument("--taint", metavar="KEY[=VALUE][:EFFECT]", help="apply taint to node")
    original.add_argument(
        "--disable-taint",
        nargs="?",
        const="true",
        default="false",
        choices=("true", "false"),
        help="give the node no taint: ordinary pods may come",
    )
    original.add_argument("-t", "--toggle", action="store_true", help=UNUSED)
    original.add_argument("--cluster-domain", default="cluster.local", metavar="NAME", help=UNUSED)
    original.add_argument("--metrics-addr", default=":10255", metavar="ADDRESS", help=UNUSED)
    original.add_argument("--pod-sync-workers", type=int, default=10, metavar="N", help="pods worked on at once (10)")
    original.add_argument("--full-resync-period", default="1m", metavar="TIME", help="between full looks (1m)")
    original.add_argument("--startup-timeout", default="0s", metavar="TIME", help=UNUSED)
    ours = made.add_argument_group("ours")
    ours.add_argument("--standalone", action="store_true", help="without an API server: files and a URL")
    ours.add_argument("--manifest-dir", default=MANIFEST_DIR, metavar="DIR", help=f"static pods ({MANIFEST_DIR})")
    ours.add_argument("--manifest-url", metavar="URL", help="more static pods")
    ours.add_argument(
        "--manifest-url-header", action="append", default=[], metavar="NAME:VALUE", help="sent with its requests"
    )
    ours.add_argument("--state-dir", default=STATE_DIR, metavar="DIR", help=f"what outlives the agent ({STATE_DIR})")
    ours.add_argument("--root", default="/", metavar="DIR", help="the machine's root: all paths lie below it (/)")
    ours.add_argument("--forget-source", action="append", default=[], metavar="NAME", help="remove its pods")
    ours.add_argument("--accept-new-cluster", action="store_true", help="believe an API server that lost this node")
    ours.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    ours.add_argument("-o", "--output", default="text", choices=("text", "json"))
    ours.add_argument("-v", "--verbose", action="store_true", help="log every call")
    ours.add_argument("--log-format", default="text", choices=("text", "json"))
    web = made.add_argument_group("serve-web, the provider behind HTTP; certificates also for kubelet's own API")
    web.add_argument("--listen", metavar="ADDRESS:PORT", help="where to listen (127.0.0.1, port $PORT or 3000)")
    web.add_argument("--token-file", metavar="FILE", help="the token that who asks must show")
    web.add_argument("--tls-cert-file", metavar="FILE", help="the server's certificate")
    web.add_argument("--tls-key-file", metavar="FILE", help="its key")
    web.add_argument("--client-ca-file", metavar="FILE", help="the authority of those who may ask")
    return made


def seconds(text: str) -> float | None:
    """A duration as Go writes it, None for what is none."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text))


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--disable-taint true` as one word: charts in the field write it as two."""
    made: list[str] = []
    for one in arguments:
        if made and made[-1] == "--disable-taint" and one in ("true", "false"):
            made[-1] += f"={one}"
        else:
            made.append(one)
    return made


def _header(text: str, faults: list[Fault]) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name.strip()):
        faults.append(Fault("--manifest-url-header", "NAME:VALUE was expected"))  # its value may be a secret
    return name.strip(), value.strip()
