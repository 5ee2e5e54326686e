"""What may be asked of EC2: the permissions, the model of the API, and where it is asked."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.session import Session

from protokube import awsclient
from protokube.cloudprovider.aws import provider
from protokube.cloudprovider.aws.ec2 import METHODS
from protokube.cloudprovider.aws.errors import HINTS, VOLUME_DENIED
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG
from protokube.dnsprovider import route53
from tests.lab.aws import Lab, forget_credentials, one_reconcile
from tests.lab.ec2 import REGION

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"


# --- permissions, the model of the API, and what it costs ----------------------------------------------


def policy() -> list[dict[str, Any]]:
    (text,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def test_the_documented_policy_is_every_call_and_nothing_else() -> None:
    allowed = [action for statement in policy() for action in actions(statement)]
    assert sorted(allowed) == sorted(f"ec2:{operation}" for operation in METHODS)
    assert not [one for one in allowed if "*" in one]


def test_no_other_call_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    made = awsclient.client("ec2", REGION)
    assert set(made.meta.service_model.operation_names) == set(METHODS)
    assert {made.meta.method_to_api_mapping[method] for method in METHODS.values()} == set(METHODS)
    source = "".join(path.read_text() for path in Path(provider.__file__).parent.glob("*.py"))
    assert set(re.findall(r'_(?:call|pages)\(\s*"(\w+)"', source)) == set(METHODS)


def test_every_call_was_seen_by_ec2_and_is_in_the_policy(lab: Lab) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume("events"), other, "/dev/xvdu")
    volume_id = lab.volume()
    cloud = AwsCloud()
    one_reconcile(cloud)
    cloud.attach(volume_id)
    for key in (FILESYSTEM_TAG, BOOTSTRAPPED_TAG):
        cloud.tag(volume_id, key, "x")
    assert set(lab.ec2.operations()) == set(METHODS)
    assert {call.error for call in lab.ec2.calls} == {None}


def test_only_our_own_tags_may_be_written_and_only_on_the_clusters_volumes() -> None:
    (marking,) = (statement for statement in policy() if "ec2:CreateTags" in actions(statement))
    conditions = marking["Condition"]
    assert set(conditions["ForAllValues:StringEquals"]["aws:TagKeys"]) == {FILESYSTEM_TAG, BOOTSTRAPPED_TAG}
    assert conditions["Null"] == {"aws:TagKeys": "false"}  # ForAllValues is true of a request without keys
    assert marking["Resource"].endswith(":volume/*")
    for statement in policy():
        looks = all(action.startswith("ec2:Describe") for action in actions(statement))
        assert looks or "aws:ResourceTag/KubernetesCluster" in statement["Condition"]["StringEquals"]


def test_every_explained_code_is_in_the_documentation() -> None:
    table = DOCS.read_text()
    assert [code for code in (*HINTS, *VOLUME_DENIED, "InvalidDevice.InUse") if f"`{code}`" not in table] == []
    assert set(HINTS) >= VOLUME_DENIED


def test_looking_only_describes(lab: Lab) -> None:
    lab.ec2.attach(lab.volume(), lab.another_node(), "/dev/xvdu")
    cloud = AwsCloud()
    for _ in range(2):
        one_reconcile(cloud)
    assert {operation.startswith("Describe") for operation in lab.ec2.operations()} == {True}


def without_words(full: Any) -> Any:
    """A part of a service model without its documentation."""
    if isinstance(full, list):
        return [without_words(one) for one in full]
    if not isinstance(full, dict):
        return full
    return {key: without_words(one) for key, one in full.items() if key not in ("documentation", "documentationUrl")}


def test_our_model_of_route_53_is_a_part_of_botocores() -> None:
    """Of the operations in use it is everything: a record set that is written back must have lost nothing."""
    path = "route53/2013-04-01/service-2"
    ours = json.loads((awsclient.MODELS / f"{path}.json").read_text())
    full = Loader().load_data(path)
    assert ours["metadata"] == without_words(full["metadata"])
    for kind in ("operations", "shapes"):
        assert ours[kind] == {name: without_words(full[kind][name]) for name in ours[kind]}
    named = set(re.findall(r'"shape": "(\w+)"', json.dumps(ours)))
    assert named == set(ours["shapes"])


def test_our_model_of_route_53_has_the_operations_in_use_and_is_the_one_that_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    forget_credentials()
    made = awsclient.client("route53", REGION)
    source = "".join(path.read_text() for path in Path(route53.__file__).parent.rglob("*.py"))
    assert set(made.meta.method_to_api_mapping) == set(re.findall(r"_client\.(\w+)\(", source))
    forget_credentials()


@pytest.mark.parametrize("path", ["ec2/2016-11-15/service-2", "s3/2006-03-01/service-2"])
def test_our_model_is_a_part_of_botocores(path: str) -> None:
    ours = json.loads((awsclient.MODELS / f"{path}.json").read_text())
    full = Loader().load_data(path)

    def compare(mine: str, theirs: str, place: str) -> None:
        a, b = ours["shapes"][mine], full["shapes"][theirs]
        assert (a["type"], a.get("required")) == (b["type"], b.get("required")), place
        members = [(a["members"][key], b["members"][key], f"{place}.{key}") for key in a.get("members", ())]
        if "member" in a:
            members.append((a["member"], b["member"], f"{place}[]"))
        for one, other, inner in members:
            assert one.get("locationName") == other.get("locationName"), inner
            compare(one["shape"], other["shape"], inner)

    assert ours["metadata"] == full["metadata"]
    for name, operation in ours["operations"].items():
        assert operation["http"] == full["operations"][name]["http"]
        for side in ("input", "output"):
            if side in operation:
                compare(operation[side]["shape"], full["operations"][name][side]["shape"], f"{name}.{side}")


@pytest.mark.parametrize(
    ("region", "variables"),
    [
        ("us-east-1", {}),
        ("eu-central-1", {}),
        ("cn-north-1", {}),
        ("us-gov-west-1", {}),
        ("us-iso-east-1", {}),
        ("xx-unheard-of-9", {}),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
    ],
)
@pytest.mark.parametrize("service", ["ec2", "route53", "sts"])
def test_the_lean_client_asks_where_botocores_own_would(
    service: str, region: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(name, value)

    class SeenError(Exception):
        pass

    def asked(client: Any) -> tuple[str, str]:
        method, operation = {
            "ec2": ("describe_volumes", "DescribeVolumes"),
            "route53": ("list_hosted_zones_by_name", "ListHostedZonesByName"),
            "sts": ("get_caller_identity", "GetCallerIdentity"),
        }[service]

        def stop(request: Any, **_: object) -> None:
            raise SeenError(request.url, re.sub(r"(/\d{8}/|Signature=).*", "", str(request.headers["Authorization"])))

        client.meta.events.register(
            f"before-send.{client.meta.service_model.service_id.hyphenize()}.{operation}", stop
        )
        with pytest.raises(SeenError) as caught:
            getattr(client, method)()
        return caught.value.args

    forget_credentials()
    lean = asked(awsclient.client(service, region))
    forget_credentials()
    assert lean == asked(Session().create_client(service, region_name=region))


READ = """
import os, sys
from protokube import awsclient
read = set()
def seen(event, arguments):
    if event == "open" and "botocore/data/" in str(arguments[0]):
        read.add(str(arguments[0]).partition("botocore/data/")[2])
sys.addaudithook(seen)
for service in ("ec2", "route53", "s3"):
    awsclient.client(service, "us-east-1")
print(*sorted(read), sep="\\n")
"""


def test_of_botocores_own_data_only_what_is_small_is_read() -> None:
    """Says when botocore's loader has changed: the table of all endpoints has 1.2 MB, EC2's own model 5 MB."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, text=True, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.split() == [
        "ec2/2016-11-15/endpoint-rule-set-1.json.gz",
        "partitions.json",
        "route53/2013-04-01/endpoint-rule-set-1.json.gz",
        "s3/2006-03-01/endpoint-rule-set-1.json.gz",
        "s3/2006-03-01/service-2.sdk-extras.json",
        "sdk-default-configuration.json",
    ]


def test_choosing_aws_does_not_load_botocore() -> None:
    code = (
        "import sys; from protokube.cloudprovider.aws.provider import AwsCloud; AwsCloud(); "
        "sys.exit(sorted(m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore', 'urllib3')) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# --- one session, one TLS context ----------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate authority of our own, and in the same file a certificate of it for 127.0.0.1, with its key."""
    bundle = tmp_path / "authority.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*argv, "-keyout", tmp_path / "key.pem", "-out", bundle], check=True, capture_output=True)
    return bundle


@pytest.fixture
def tls_server(authority: Path) -> Iterator[str]:
    """Answers each request with an error of its own; the URL. Every connection ends after its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(418)

        do_GET = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority, authority.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def asked(service: str) -> str:
    """The outcome of a call of that service."""
    client: Any = awsclient.client(service, REGION)
    call = {"ec2": "describe_volumes", "route53": "list_hosted_zones_by_name"}[service]
    with pytest.raises(awsclient.CALL_ERRORS) as caught:
        getattr(client, call)()
    return str(caught.value)


def test_all_clients_read_the_authorities_once(
    authority: Path, tls_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of these four connections botocore's own clients would read them again."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", tls_server)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.with_name("missing.pem")))
    read: list[str] = []
    load = ssl.SSLContext.load_verify_locations

    def counted(context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        read.append(str(cafile))
        load(context, cafile, capath, cadata)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    forget_credentials()
    assert "missing.pem" in asked("ec2") or "No such file" in asked("ec2")
    forget_credentials()
    authority.rename(authority.with_name("missing.pem"))
    assert ["418" in asked(service) for service in ("ec2", "route53", "ec2", "route53")] == [True] * 4
    assert len(read) == 1
    forget_credentials()


def test_another_authority_is_not_believed(tls_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", tls_server)
    forget_credentials()
    assert "CERTIFICATE_VERIFY_FAILED" in asked("ec2")
    forget_credentials()


def test_two_threads_and_two_regions_share_one_session(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """So credentials are looked for once: a token, the role's name, its keys."""
    lab.imds.metadata.credentials = ("AKIAONE", "secret")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_credentials()
    lab.imds.requests.clear()
    services = [("ec2", REGION), ("route53", "eu-central-1"), ("ec2", REGION), ("sts", REGION)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda one: awsclient.client(*one), services))
    assert [one.meta.region_name for one in made] == [REGION, "eu-central-1", REGION, REGION]
    assert len(lab.imds.requests) == 3
