"""Which API server is spoken to, and as whom: a kubeconfig, or what a pod is given in its cluster."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from protokube.core.model import Fault
from protokube.core.untrusted_yaml import load
from protokube.errors import ConfigError, ProviderError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Pem(Struct, frozen=True):
    """Something in PEM: a file that is read anew when it changes, or its text."""

    path: Path | None = None
    text: str | None = None

    def __repr__(self) -> str:
        """Without the text, which may be a key."""
        return f"Pem({self.path or '…'})"

    def stamp(self) -> tuple[int, int, int]:
        """What tells one content of the file from another. Raises OSError."""
        if self.path is None:
            return (0, 0, 0)
        found = self.path.stat()
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def read(self) -> str:
        """The text. Raises OSError, or UnicodeDecodeError."""
        return self.text if self.path is None else self.path.read_text()  # type: ignore[return-value]


class Plugin(Struct, frozen=True):
    """A program that prints credentials (client.authentication.k8s.io). `env` is added to its environment."""

    command: tuple[str, ...]
    api_version: str
    env: tuple[tuple[str, str], ...] = ()


class KubeConfig(Struct, frozen=True):
    """One API server and one user. `server` ends without a slash."""

    server: str
    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    token: str | None = None
    token_file: Path | None = None
    server_name: str | None = None
    verify: bool = True
    plugin: Plugin | None = None

    def __repr__(self) -> str:
        """Without secrets."""
        return f"KubeConfig({self.server})"

    def stamp(self) -> tuple[object, ...]:
        """What changes when one of the certificates' files does. Raises ProviderError."""
        try:
            return tuple(one.stamp() for one in (self.ca, self.certificate, self.key) if one is not None)
        except OSError as error:
            raise ProviderError(f"{error.filename}: {error.strerror}") from error

    def tls(self, shown: tuple[str, str] | None = None) -> ssl.SSLContext:
        """Whom to believe, and who we are: `shown`, a certificate and its key, else our own. Raises ProviderError."""
        try:
            context = ssl.create_default_context(cadata=self.ca.read() if self.ca is not None else None)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if shown is not None:
                load_pair(context, *shown)
            elif self.certificate is not None and self.key is not None:
                load_pair(context, self.certificate.read(), self.key.read())
        except (OSError, ValueError) as error:
            raise ProviderError(f"credentials for {self.server}: {error}") from error
        return context


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have TLS show a certificate; the key never touches a disk. Raises OSError."""
    opened = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(opened, f"{certificate}\n{key}".encode())
        context.load_cert_chain(f"/proc/self/fd/{opened}")
    finally:
        os.close(opened)


def find_config(given: str | None, environ: Mapping[str, str]) -> KubeConfig:
    """The kubeconfig that was given, else ~/.kube/config, else what a pod has. Raises ConfigError."""
    if given is not None:
        return read_kubeconfig(Path(given))
    own = Path(environ.get("HOME", "/root"), ".kube/config")
    if own.is_file():
        return read_kubeconfig(own)
    return in_cluster(environ)


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> KubeConfig:
    """The API server that a pod is told of. Raises ConfigError."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (folder / "token").is_file():
        fault = "it is missing, and so are ~/.kube/config and a pod's service account; say where the API server is"
        raise ConfigError([Fault("--kubeconfig", fault)])
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return KubeConfig(server, ca=Pem(folder / "ca.crt"), token_file=folder / "token")


def read_kubeconfig(path: Path) -> KubeConfig:
    """The current context of a kubeconfig. Raises ConfigError with every fault."""
    try:
        tree = load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Fault(str(path), str(error))]) from error
    faults: list[Fault] = []
    reading = _Reading(path, tree if isinstance(tree, dict) else {}, faults)
    context = reading.named("contexts", "context", reading.text(reading.tree, "current-context"))
    cluster = reading.named("clusters", "cluster", reading.text(context, "cluster"))
    user = reading.named("users", "user", reading.text(context, "user"))
    server = reading.text(cluster, "server").rstrip("/")
    if not faults and not server.startswith(("https://", "http://")):
        faults.append(Fault(str(path), f"server: https://HOST:PORT was expected, got {server!r}"))
    faults += [
        Fault(str(path), f"users: {key} isn't supported; use a certificate, a token or exec")
        for key in ("username", "password", "auth-provider")
        if user.get(key)
    ]
    certificate, key = reading.pem(user, "client-certificate"), reading.pem(user, "client-key")
    if (certificate is None) != (key is None):
        faults.append(Fault(str(path), "users: client-certificate and client-key go together"))
    token_file = user.get("tokenFile")
    made = KubeConfig(
        server,
        reading.pem(cluster, "certificate-authority"),
        certificate,
        key,
        user.get("token"),
        path.parent / str(token_file) if token_file else None,
        cluster.get("tls-server-name"),
        not cluster.get("insecure-skip-tls-verify", False),
        reading.plugin(user),
    )
    if faults:
        raise ConfigError(faults)
    return made


class _Reading(Struct):
    """One file, and what is wrong with it."""

    path: Path
    tree: dict[str, Any]
    faults: list[Fault]

    def fault(self, text: str) -> None:
        self.faults.append(Fault(str(self.path), text))

    def text(self, within: Mapping[str, Any], key: str) -> str:
        value = within.get(key)
        if isinstance(value, str) and value:
            return value
        if not self.faults:  # one that is missing makes all that follow missing
            self.fault(f"{key}: text was expected, got {value!r}")
        return ""

    def named(self, listing: str, kind: str, name: str) -> dict[str, Any]:
        for one in self.tree.get(listing) or ():
            if isinstance(one, dict) and one.get("name") == name and isinstance(one.get(kind) or {}, dict):
                return one.get(kind) or {}
        if not self.faults:
            self.fault(f"{listing}: there is none of name {name!r}")
        return {}

    def pem(self, within: Mapping[str, Any], key: str) -> Pem | None:
        if data := within.get(f"{key}-data"):
            try:
                return Pem(text=base64.b64decode(str(data), validate=True).decode())
            except (binascii.Error, UnicodeDecodeError) as error:
                self.fault(f"{key}-data: base64 of PEM was expected: {error}")
        elif file := within.get(key):
            return Pem(self.path.parent / str(file))
        return None

    def plugin(self, user: Mapping[str, Any]) -> Plugin | None:
        asked = user.get("exec")
        if not asked:
            return None
        if not isinstance(asked, dict) or not asked.get("command") or not asked.get("apiVersion"):
            self.fault("users: exec: command and apiVersion were expected")
            return None
        argv = (str(asked["command"]), *map(str, asked.get("args") or ()))
        env = tuple((str(one["name"]), str(one.get("value", ""))) for one in asked.get("env") or ())
        return Plugin(argv, str(asked["apiVersion"]), env)
