"""What the command line and the environment say of the API server, the node and kubelet's own API."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from protokube.agent.core.model import Json
from protokube.agent.core.node import taint_of
from protokube.agent.http.webconfig import Serving
from protokube.core.model import Fault

KUBELET_PORT = "10250"
_TAINT = re.compile(
    r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?(=[-A-Za-z0-9_.]*)?(:(NoSchedule|PreferNoSchedule|NoExecute))?"
)
_NO_VALUE = re.compile(r"[^-A-Za-z0-9_.]+")


class ApiOptions(Struct, frozen=True):
    """What matters with an API server alone.

    `namespace`: '' is all. `address`: the node's, None: that of the default route. `accept_new_cluster`: believe an
    API server that knows the node by another UID. `kubelet`: where kubelet's own API listens, and who may ask.
    """

    kubeconfig: str | None
    namespace: str
    system: str
    taints: tuple[Json, ...]
    address: str | None
    accept_new_cluster: bool
    kubelet: Serving


def read_api_options(given: argparse.Namespace, environment: Mapping[str, str], faults: list[Fault]) -> ApiOptions:
    """Read them; add to `faults` what is wrong."""
    address = environment.get("VKUBELET_POD_IP")
    if address is not None and not _is_address(address):
        faults.append(Fault("VKUBELET_POD_IP", f"an address was expected, got {address!r}"))
    return ApiOptions(
        given.kubeconfig or environment.get("KUBECONFIG"),
        given.namespace,
        given.os.lower(),
        _taints(given, environment, faults),
        address,
        given.accept_new_cluster,
        _kubelet(given, environment, faults),
    )


def _taints(given: argparse.Namespace, environment: Mapping[str, str], faults: list[Fault]) -> tuple[Json, ...]:
    if given.taint is not None and not _TAINT.fullmatch(given.taint):
        faults.append(Fault("--taint", f"KEY[=VALUE][:EFFECT] was expected, got {given.taint!r}"))
    if given.disable_taint == "true" or faults:
        return ()
    if given.taint is not None:
        return (taint_of(given.taint),)
    key = environment.get("VKUBELET_TAINT_KEY", "virtual-kubelet.io/provider")
    value = environment.get("VKUBELET_TAINT_VALUE", _NO_VALUE.sub("-", given.provider or ""))
    effect = environment.get("VKUBELET_TAINT_EFFECT", "NoSchedule")
    text = f"{key}={value}:{effect}"
    if not _TAINT.fullmatch(text):
        faults.append(Fault("VKUBELET_TAINT_KEY", f"KEY=VALUE:EFFECT was expected of the three, got {text!r}"))
        return ()
    return (taint_of(text),)


def _kubelet(given: argparse.Namespace, environment: Mapping[str, str], faults: list[Fault]) -> Serving:
    """Without a client CA nobody but this machine may ask: the original lets anyone in."""
    port = environment.get("KUBELET_PORT", KUBELET_PORT)
    if not port.isdecimal() or int(port) > 65535:
        faults.append(Fault("KUBELET_PORT", f"a port was expected, got {port!r}"))
        port = KUBELET_PORT
    files = {}
    for option, variable in (
        ("tls_cert_file", "APISERVER_CERT_LOCATION"),
        ("tls_key_file", "APISERVER_KEY_LOCATION"),
        ("client_ca_file", "APISERVER_CA_CERT_LOCATION"),
    ):
        files[option] = getattr(given, option) or environment.get(variable)
        if not getattr(given, option) and files[option] and not Path(str(files[option])).is_file():
            faults.append(Fault(variable, f"{files[option]}: there is no such file"))
    cert, key, ca = files.values()
    if (cert is None) != (key is None):
        faults.append(Fault("APISERVER_CERT_LOCATION", "it goes together with APISERVER_KEY_LOCATION"))
    return Serving("" if ca else "127.0.0.1", int(port), cert_file=cert, key_file=key, client_ca_file=ca)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
