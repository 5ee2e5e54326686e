"""`protokube token`: makes, lists and deletes bootstrap tokens, on a control-plane node, by its own API server."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime, timedelta

from msgspec.json import encode

from protokube.config.choice import Chosen
from protokube.config.commands import TokenCommand
from protokube.core.objects.model import CERTIFICATE
from protokube.core.objects.tokens import (
    ALPHABET,
    ID_LENGTH,
    NAMESPACE,
    SECRET_LENGTH,
    Token,
    is_id,
    secret_manifest,
    secret_name,
    tokens_of,
)
from protokube.errors import ProviderError
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.node import node_api, node_certificate
from protokube.kubeapi.requests import text_of

_TOKENS = "type=bootstrap.kubernetes.io/token"


class _Terminal:
    """One command."""

    def __init__(self, command: TokenCommand, chosen: Chosen) -> None:
        self._command, self._chosen = command, chosen
        self._root = chosen.settings.root
        self._api: KubeApi = node_api(self._root, chosen.config.kubelet.api_port)

    def run(self) -> None:
        """Carry it out. Raises ProviderError."""
        match self._command.verb:
            case "create":
                self._create()
            case "list":
                self._list()
            case _:
                self._delete()

    def _create(self) -> None:
        identity, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self._command.life)
        when = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        made = Token(identity, when, self._command.description, self._command.node)
        manifest = secret_manifest(made, secret)
        self._api.create(self._api.path("v1", "Secret", NAMESPACE), manifest)
        ca = node_certificate(self._root, CERTIFICATE).joinpath("ca.crt").read_text(encoding="ascii")
        token, url = f"{identity}.{secret}", self._url()
        if self._chosen.settings.output == "json":
            print(encode({"token": token, "expires": when, "api": url, "ca": ca, "node": made.node}).decode())
            return
        print(f"# Run this as root on the new machine before {when}. It is shown once.")
        print("umask 077 && mkdir -p /etc/protokube")
        print(f"cat >/etc/protokube/token <<'END'\n{token}\nEND")
        print(f"cat >/etc/protokube/ca.crt <<'END'\n{ca.strip()}\nEND")
        print(f"# and start protokube there with: --api {url}")

    def _url(self) -> str:
        cluster = self._chosen.config.volumes.cluster_id or self._asked()
        return f"https://api{self._chosen.config.etcd.suffix(cluster)}:{self._chosen.config.kubelet.api_port}"

    def _asked(self) -> str:
        cloud, _, _ = self._chosen.cloud()
        try:
            return cloud.cluster_id()
        finally:
            cloud.close()

    def _tokens(self) -> tuple[Token, ...]:
        found = self._api.list(self._api.path("v1", "Secret", NAMESPACE), fieldSelector=_TOKENS)
        return tokens_of(found, text_of)

    def _list(self) -> None:
        found = self._tokens()
        if self._chosen.settings.output == "json":
            print(encode(found).decode())
            return
        for one in found:
            node = f"  for {one.node}" if one.node else ""
            print(f"{one.id}  until {one.expires or 'for ever'}{node}  {one.description}".rstrip())

    def _delete(self) -> None:
        identity = self._command.id
        if not self._api.delete(self._api.path("v1", "Secret", NAMESPACE, secret_name(identity))):
            raise ProviderError(f"{identity}: there is no such token; see `protokube token list`")
        print(f"deleted {identity}")


def token(command: TokenCommand, chosen: Chosen) -> bool:
    """Carry out a command. False, with the reason on stderr, when it can't be."""
    assert command.verb != "delete" or is_id(command.id)
    try:
        _Terminal(command, chosen).run()
    except ProviderError as error:
        print(f"protokube token {command.verb}: {error}", file=sys.stderr)
        return False
    return True


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
