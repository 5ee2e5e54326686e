"""AWS API clients that start fast and stay small, for every adapter that talks to AWS.

botocore (boto3's own core) is used directly, through its public loader interface, with two things left out:

- the full service model, where this package has a smaller one in `awsmodels/`: only the operations and fields
  that are used. EC2's own holds hundreds of operations and costs 0.13 s and 16 MiB to load; a service without
  a model here gets botocore's;
- the 1.2 MB table of every endpoint of every service. botocore needs it only for services without endpoint
  rules; ours have them, and the rules know partitions (China, GovCloud, …), FIPS and dual-stack endpoints.

Everything else is botocore's: credentials, `AWS_ENDPOINT_URL_EC2` and its kin, `AWS_CA_BUNDLE`, proxies. All clients
of the process share one session, and so its credentials. They share one TLS context, so that the certificate
authorities are read once: urllib3 reads them for each connection, which takes longer than most calls. Before each
call the credentials are checked. So an error of the credentials always means that no call was made.

A call is tried once: the next reconcile tries again and backs off, and botocore must not repeat an AttachVolume
unseen. Importing this module costs 0.1 s; import it when a client is needed.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore import httpsession
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, MetadataRetrievalError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session

log = logging.getLogger("protokube")

__all__ = ["CALL_ERRORS", "ClientError", "NotReadyError", "client"]

MODELS = Path(__file__).parent / "awsmodels"
SERVICES = ["ec2", "route53", "s3", "sts", "sso", "sso-oidc", "signin"]
"""The services that are called, and those that botocore calls for credentials (a role, a web identity, a log-in)."""


class NotReadyError(Exception):
    """The SDK's configuration or credentials are missing or wrong. No request was made. The message names the
    remedy."""


class _NoCredentialsError(NotReadyError):
    """There are none. They may come late."""


CALL_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""All other errors of a call whose causes lie outside the program."""

_BROKEN = (*CALL_ERRORS, OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""Errors that botocore raises, or lets through, where a file, a program, the environment or a metadata service gives
something other than credentials or configuration."""

_NO_CREDENTIALS = (
    "no AWS credentials yet{}; they may arrive late on a fresh instance. If they don't, give the instance a profile "
    "whose role trusts ec2.amazonaws.com and has the permissions in docs/aws.md and docs/dns.md"
)
_CHECK = (
    "check the AWS_… variables of the environment, ~/.aws/config and ~/.aws/credentials, and the way to what they "
    "name (docs/aws.md)"
)

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"total_max_attempts": 1, "mode": "standard"},
    user_agent_extra="protokube",
    max_pool_connections=4,
    s3={"us_east_1_regional_endpoint": "regional"},  # the global one needs the table of all endpoints
)


class _LeanLoader(Loader):
    """botocore's loader of service models, with our models first and without the table of all endpoints."""

    def __init__(self) -> None:
        super().__init__(extra_search_paths=[str(MODELS), self.BUILTIN_DATA_PATH], include_default_search_paths=False)

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - the parent's signature
        """The services in use; looking for all of them reads 400 directories."""
        return SERVICES

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        """A data file and where it lies.

        The empty table of endpoints must have the path of botocore's own: a table from any other path overrules the
        endpoint rules.
        """
        if name == "endpoints":
            return {"version": 3, "partitions": []}, os.path.join(self.BUILTIN_DATA_PATH, name)  # noqa: PTH118
        load: Callable[[str], tuple[Any, str]] = super().load_data_with_path
        return load(name)


class _TlsContext(ssl.SSLContext):
    """A TLS context that reads each bundle of certificate authorities once, and again when the file has changed."""

    _lock = threading.Lock()
    _bundles: frozenset[tuple[str, int, int]] = frozenset()

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """As the standard library's."""
        if cafile is None or capath or cadata:
            super().load_verify_locations(cafile, capath, cadata)
            return
        with self._lock:
            state = Path(cafile).stat()
            bundle = (str(cafile), state.st_ino, state.st_mtime_ns)
            if bundle not in self._bundles:
                super().load_verify_locations(cafile)
                self._bundles |= {bundle}


def _share_tls_context() -> None:
    """Let botocore, which makes a context for each client, have the same one each time."""
    httpsession.SSLContext = _TlsContext  # type: ignore[attr-defined]
    context = httpsession.create_urllib3_context()
    httpsession.create_urllib3_context = lambda: context  # type: ignore[misc, assignment]


_share_tls_context()
_MODE = "ec2_metadata_service_endpoint_mode"
_metadata_on_ipv6 = threading.Event()  # set while credentials come from there
_making = threading.Lock()  # botocore's sessions make clients for one thread at a time


@functools.cache
def _session(imds_v1: bool) -> Session:
    session = Session()
    session.register_component("data_loader", _LeanLoader())
    session.set_default_client_config(_CONFIG)  # for the clients that it makes itself, to ask for credentials
    if not imds_v1:
        session.set_config_variable("ec2_metadata_v1_disabled", True)
    if _metadata_on_ipv6.is_set():
        session.set_config_variable(_MODE, "ipv6")
    return session


def _ready_session(imds_v1: bool, region: str) -> Session:
    """The session with credentials. Without any, try the metadata service at its IPv6 address too."""

    def ready() -> Session:
        session = _session(imds_v1)
        session.set_config_variable("region", region)  # where STS is asked
        _check_credentials(session)
        return session

    try:
        return ready()
    except _NoCredentialsError:
        if _metadata_on_ipv6.is_set() or not _may_be_on_ipv6():
            _metadata_on_ipv6.clear()  # the next attempt begins with IPv4
            raise
        _metadata_on_ipv6.set()
        try:
            return ready()
        except NotReadyError:
            _metadata_on_ipv6.clear()
        raise


def _may_be_on_ipv6() -> bool:
    """Whether no setting names the metadata service's address. botocore asks at its IPv4 address only then."""
    session = Session()
    return not any(session.get_config_variable(name) for name in ("ec2_metadata_service_endpoint", _MODE))


def client(service: str, region: str, *, imds_v1: bool = False) -> BaseClient:
    """A client for `service` ("ec2", "route53", "s3") in `region`; thread-safe.

    `imds_v1`: the metadata service may be asked for credentials without a token, where it gives none.
    Makes no call to the service, but looks for credentials, which may ask the instance metadata service or STS.
    This and every call raise NotReadyError while there are none: throw the client away then and make a new one,
    which reads the SDK's files again.
    """
    with _making:
        session = _ready_session(imds_v1, region)
        try:
            made: BaseClient = session.create_client(service, region_name=region)
        except _BROKEN as error:
            raise _not_ready("configuration", error) from error
    made.meta.events.register_first("provide-client-params", lambda **_: _check_credentials(session))
    made.meta.events.register("after-call", _say)
    made.meta.events.register("after-call-error", _say_error)
    return made


def _say(*, model: Any, http_response: Any, parsed: Any, **_: Any) -> None:
    """Log an answer with its request id, by which AWS's support and CloudTrail find a call."""
    request = parsed.get("ResponseMetadata", {}).get("RequestId", "none")
    code = parsed.get("Error", {}).get("Code", "")
    status = f"HTTP {http_response.status_code} {code}".rstrip()
    log.debug("%s %s: %s, request %s", model.service_model.service_id, model.name, status, request)


def _say_error(*, event_name: str, exception: Exception, **_: Any) -> None:
    log.debug("%s: %s", event_name.removeprefix("after-call-error."), exception)


def _check_credentials(session: Session) -> None:
    try:
        if (credentials := session.get_credentials()) is not None:
            credentials.get_frozen_credentials()
            return
    except MetadataRetrievalError as error:
        _session.cache_clear()
        raise _NoCredentialsError(_NO_CREDENTIALS.format(f" ({error})")) from error
    except _BROKEN as error:
        raise _not_ready("credentials", error) from error
    _session.cache_clear()
    raise _NoCredentialsError(_NO_CREDENTIALS.format(""))


def _not_ready(what: str, error: Exception) -> NotReadyError:
    _session.cache_clear()
    said = " ".join(str(error).split())
    return NotReadyError(f"the AWS SDK has no usable {what} ({type(error).__name__}: {said}); {_CHECK}")
