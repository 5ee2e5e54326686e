"""AWS API clients that start fast and stay small, for every adapter that talks to AWS.

botocore (boto3's own core) is used directly, through its public loader interface, with two things left out:

- the full service model, where this package has a smaller one in `awsmodels/`: only the operations and fields
  that are used. EC2's own holds hundreds of operations and costs 0.13 s and 16 MiB to load; a service without
  a model here gets botocore's;
- the 1.2 MB table of every endpoint of every service. botocore needs it only for services without endpoint
  rules; ours have them, and the rules know partitions (China, GovCloud, …), FIPS and dual-stack endpoints.

Everything else is botocore's: credentials, `AWS_ENDPOINT_URL_EC2` and its kin, `AWS_CA_BUNDLE`, proxies. One
session serves the process, so all clients share its credentials.

A call is tried once: the reconcile loop comes round again and backs off, and an AttachVolume must not be
repeated behind its back. Importing this module costs 0.1 s; import it when a client is needed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session

__all__ = ["CALL_ERRORS", "BotoCoreError", "ClientError", "NoCredentialsError", "ResponseParserError", "client"]

MODELS = Path(__file__).parent / "awsmodels"
SERVICES = ["ec2", "route53"]

CALL_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""Everything that a call, or making a client, raises for reasons that lie outside the program."""

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"total_max_attempts": 1, "mode": "standard"},
    user_agent_extra="protokube",
    max_pool_connections=4,
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

        The empty table of endpoints must claim to be botocore's own: with anybody else's, botocore lets the
        table overrule the endpoint rules.
        """
        if name == "endpoints":
            return {"version": 3, "partitions": []}, os.path.join(self.BUILTIN_DATA_PATH, name)  # noqa: PTH118
        load: Callable[[str], tuple[Any, str]] = super().load_data_with_path
        return load(name)


@functools.cache
def _session() -> Session:
    session = Session()
    session.register_component("data_loader", _LeanLoader())
    return session


def client(service: str, region: str) -> BaseClient:
    """A client for `service` ("ec2", "route53") in `region`; thread-safe.

    Makes no call, but looks for credentials, which may ask the instance metadata service. A client that was
    made before there were any never finds them: on NoCredentialsError throw it away and make a new one.
    """
    made: BaseClient = _session().create_client(service, region_name=region, config=_CONFIG)
    return made
