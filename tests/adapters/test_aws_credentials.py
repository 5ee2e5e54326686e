"""Where credentials come from, and what is said while there are none: no request is made then."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest

from protokube import awsclient
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.config.choice import choose
from protokube.config.load import read
from protokube.config.wiring import wire
from protokube.core.volumes.model import CloudVolume
from protokube.dnsprovider.route53 import Route53
from protokube.errors import ProviderError
from protokube.eventloop import EventLoop
from tests.lab.aws import Lab, aws_lab, forget_credentials
from tests.lab.ec2 import REGION
from tests.lab.imds import ImdsServer, Metadata
from tests.lab.netns import Network

ROLE_ARN = "arn:aws:iam::123456789012:role/protokube"
KEYS = "aws_access_key_id = AKIABASE\naws_secret_access_key = secret\n"


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    """A region where nothing but a test's own files and variables gives credentials."""
    with aws_lab(monkeypatch) as running:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.ec2.url)
        running.imds.metadata.credentials = None
        forget_credentials()
        yield running


def describe(cloud: AwsCloud) -> tuple[CloudVolume, ...]:
    """One call alone, of those that a snapshot makes."""
    return cloud._ec2.volumes()


def calls(lab: Lab) -> list[tuple[str, str | None]]:
    """What was asked, and whose key signed it: that of a role begins with ASIA."""
    return [(call.operation, call.key and call.key[:4]) for call in lab.ec2.calls]


# --- roles -------------------------------------------------------------------------------------------------


def test_a_profile_with_a_role(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(
        f"[profile node]\nrole_arn = {ROLE_ARN}\nsource_profile = base\n[profile base]\n{KEYS}"
    )
    monkeypatch.setenv("AWS_PROFILE", "node")
    cloud = AwsCloud()
    for _ in range(2):
        assert describe(cloud) == ()
    assert calls(lab) == [("AssumeRole", "AKIA"), ("DescribeVolumes", "ASIA"), ("DescribeVolumes", "ASIA")]
    assert lab.ec2.calls[0].parameters["RoleArn"] == ROLE_ARN


def test_a_profile_with_a_role_that_the_instances_own_may_assume(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        f"[profile node]\nrole_arn = {ROLE_ARN}\ncredential_source = Ec2InstanceMetadata\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "node")
    lab.imds.metadata.credentials = ("AKIAINSTANCE", "secret")
    assert describe(AwsCloud()) == ()
    assert calls(lab) == [("AssumeRole", "AKIA"), ("DescribeVolumes", "ASIA")]


def test_a_web_identity(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("header.payload.signature")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE_ARN)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    assert describe(AwsCloud()) == ()
    assert calls(lab) == [("AssumeRoleWithWebIdentity", None), ("DescribeVolumes", "ASIA")]


def test_a_role_that_may_not_be_assumed_is_no_answer_of_ec2(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        f"[profile node]\nrole_arn = {ROLE_ARN}\nsource_profile = base\n[profile base]\n{KEYS}"
    )
    monkeypatch.setenv("AWS_PROFILE", "node")
    cloud = AwsCloud()
    lab.ec2.fail_next("AssumeRole", "AccessDenied", "User base is not authorized to perform: sts:AssumeRole", 403)
    with pytest.raises(ProviderError, match=r"could not ask: .*AccessDenied.*AssumeRole.*not authorized") as caught:
        describe(cloud)
    assert "carried out" not in str(caught.value)
    assert describe(cloud) == ()
    assert [operation for operation, _ in calls(lab)] == ["AssumeRole", "AssumeRole", "DescribeVolumes"]


def test_sts_is_asked_once_a_reconcile_like_everybody(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("header.payload.signature")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE_ARN)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    lab.ec2.fail_next("AssumeRoleWithWebIdentity", "InternalFailure", "Try again", 500)
    with pytest.raises(ProviderError, match=r"could not ask: .*InternalFailure"):
        describe(AwsCloud())
    assert lab.ec2.operations() == ["AssumeRoleWithWebIdentity"]


def test_every_service_that_botocore_asks_for_credentials_is_known() -> None:
    folder = Path(botocore.__file__).parent
    source = "".join((folder / f"{name}.py").read_text() for name in ("credentials", "tokens", "utils"))
    making = r"(?:client_creator|create_client|create_nested_client)\(\s*(?:[\w.]+,\s*)?['\"]([a-z-]+)['\"]"
    asked = set(re.findall(making, source))
    assert {"sts", "sso", "sso-oidc"} <= asked
    assert asked <= set(awsclient.SERVICES)


# --- what is missing or wrong -------------------------------------------------------------------------------


BROKEN = {
    "a profile that is not there": ({"AWS_PROFILE": "nobody"}, "", "ProfileNotFound.*nobody"),
    "half a key": ({"AWS_ACCESS_KEY_ID": "AKIA"}, "", "PartialCredentialsError.*AWS_SECRET_ACCESS_KEY"),
    "a file that is none": ({}, "garbage [\n=", "ConfigParseError.*config"),
    "a program that fails": ({}, "[default]\ncredential_process = /bin/false\n", "CredentialRetrievalError"),
    "a program that is not there": ({}, "[default]\ncredential_process = /nowhere/x\n", "FileNotFoundError.*nowhere"),
    "a program that talks": ({}, "[default]\ncredential_process = /bin/echo hello\n", "JSONDecodeError"),
    "a token that is not there": (
        {"AWS_ROLE_ARN": ROLE_ARN, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token"},
        "",
        "FileNotFoundError.*/nowhere/token",
    ),
    "a limit that is none": ({}, "[default]\nmetadata_service_timeout = abc\n", "ValueError.*'abc'"),
    "an endpoint that is none": ({}, f"[default]\nendpoint_url = x.example.com\n{KEYS}", "ValueError.*x.example.com"),
    "a mode that is none": ({"AWS_DEFAULTS_MODE": "fast"}, f"[default]\n{KEYS}", "InvalidDefaultsMode.*fast"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_said_and_put_right_without_a_restart(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    variables, config, said = BROKEN[kind]
    monkeypatch.delenv("AWS_ENDPOINT_URL_EC2")
    (tmp_path / "config").write_text(config)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cloud = AwsCloud()
    route53 = Route53(internal_suffix=lambda: ".c1.test")
    with pytest.raises(ProviderError, match=rf"EC2 DescribeVolumes .*: could not ask: .*{said}.*~/\.aws/config") as e:
        describe(cloud)
    assert "\n" not in str(e.value)
    assert "carried out" not in str(e.value)
    with pytest.raises(ProviderError, match=rf"Route 53: can't look for a zone named .*{said}.*~/\.aws/config"):
        route53.record_sets(frozenset({"api.c1.test"}))
    assert lab.ec2.operations() == []
    for name in variables:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", lab.ec2.url)
    (tmp_path / "config").write_text(f"[default]\n{KEYS}")
    assert describe(cloud) == ()
    assert lab.ec2.operations() == ["DescribeVolumes"]


def test_credentials_that_expire_and_cannot_be_renewed_end_in_no_request(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "credentials"
    answer = {"Version": 1, "AccessKeyId": "AKIAONCE", "SecretAccessKey": "secret"}
    (tmp_path / "answer").write_text(json.dumps({**answer, "Expiration": "2999-01-01T00:00:00Z"}))
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    cloud = AwsCloud()
    assert describe(cloud) == ()
    monkeypatch.setattr("botocore.credentials.RefreshableCredentials.refresh_needed", lambda *_: True)
    (tmp_path / "answer").write_text("sorry")
    lab.ec2.forget()
    with pytest.raises(ProviderError, match="could not ask: the AWS SDK has no usable credentials"):
        cloud.attach(lab.volume())
    assert lab.ec2.operations() == []


def test_credentials_that_arrive_late_are_waited_for(lab: Lab) -> None:
    cloud = AwsCloud()
    with pytest.raises(
        ProviderError, match=r"could not ask: no AWS credentials yet.*instance a profile .*trusts ec2\.amazonaws\.com"
    ):
        describe(cloud)
    assert lab.ec2.operations() == []
    lab.imds.metadata.credentials = ("AKIALATE", "secret")
    assert describe(cloud) == ()
    assert [call.key for call in lab.ec2.calls] == ["AKIALATE"]


def test_a_role_that_does_not_trust_ec2_is_thought_of(lab: Lab) -> None:
    lab.imds.metadata.credentials = ("AKIAROLE", "secret")
    lab.imds.metadata.untrusting = True
    with pytest.raises(ProviderError, match=r"could not ask: no AWS credentials yet.*trusts ec2\.amazonaws\.com"):
        describe(AwsCloud())
    assert lab.ec2.operations() == []


@pytest.mark.root
def test_a_metadata_service_that_answers_on_ipv6_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client gets credentials from there; only the first has to find out."""
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    monkeypatch.setattr(awsclient, "_metadata_on_ipv6", threading.Event())
    with Network() as network:
        node = network.node()
        with node.inside(), pytest.raises(awsclient.NotReadyError, match="no AWS credentials yet"):
            awsclient.client("ec2", REGION)
        node.ip("addr", "add", "fd00:ec2::254", "dev", "lo", "nodad")
        with node.inside(), ImdsServer(Metadata("i-1", REGION, f"{REGION}a", None), "fd00:ec2::254", 80) as server:
            for service in ("ec2", "route53"):
                made: Any = awsclient.client(service, REGION)
                assert made._request_signer._credentials.access_key == "AKIATEST"
            assert len(server.requests) == 3
        node.ip("addr", "del", "fd00:ec2::254", "dev", "lo")
        node.ip("addr", "add", "169.254.169.254", "dev", "lo")
        forget_credentials()
        with node.inside(), ImdsServer(Metadata("i-1", REGION, f"{REGION}a", None), "169.254.169.254", 80):
            with pytest.raises(awsclient.NotReadyError, match="no AWS credentials yet"):
                awsclient.client("ec2", REGION)
            assert awsclient.client("ec2", REGION), "it is asked at its IPv4 address again"


@pytest.mark.root
def test_the_environment_says_where_the_metadata_service_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4")
    monkeypatch.setattr(awsclient, "_metadata_on_ipv6", threading.Event())
    with Network() as network:
        node = network.node()
        node.ip("addr", "add", "fd00:ec2::254", "dev", "lo", "nodad")
        with node.inside(), ImdsServer(Metadata("i-1", REGION, f"{REGION}a", None), "fd00:ec2::254", 80) as server:
            with pytest.raises(awsclient.NotReadyError, match="no AWS credentials yet"):
                awsclient.client("ec2", REGION)
            assert server.requests == []


# --- version 1 of the metadata service ------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["version_1_only", "hop_limit_reached"])
def test_version_1_gives_credentials_only_when_allowed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ROUTE_53", lab.ec2.url)
    lab.imds.metadata.credentials = ("AKIAV1", "secret")
    name = frozenset({"api.c1.test"})

    def providers(allowed: bool) -> tuple[AwsCloud, Route53]:
        cloud = AwsCloud(allow_imds_v1=allowed)
        assert cloud.region() == REGION  # found before the trouble begins
        return cloud, Route53(internal_suffix=lambda: ".c1.test", imds_v1=allowed)

    (cloud, route53), (old_cloud, old_route53) = providers(False), providers(True)
    setattr(lab.imds, trouble, True)
    lab.imds.tokens_required = False
    lab.imds.requests.clear()
    with pytest.raises(ProviderError, match=r"no AWS credentials yet \(.*IMDSv1 has been disabled"):
        describe(cloud)
    with pytest.raises(ProviderError, match="IMDSv1 has been disabled"):
        route53.record_sets(name)
    assert lab.imds.paths() == []  # nothing was asked without a token
    assert lab.ec2.operations() == []
    assert describe(old_cloud) == ()
    assert old_route53.record_sets(name)
    assert {call.key for call in lab.ec2.calls} == {"AKIAV1"}


def test_the_configuration_reaches_all_who_ask_for_credentials(tmp_path: Path) -> None:
    for allowed in (False, True):
        config = tmp_path / "config.yaml"
        config.write_text(f"cloud: aws\nmaster: true\nimdsV1: {str(allowed).lower()}\n")
        settings, faults = read(["--config", str(config), "--root", str(tmp_path), "--kubelet-unit", "none"], {})
        assert not faults
        wired = wire(choose(settings), EventLoop(), lambda _: None)
        cloud, dns = wired.writers["cloud"], wired.writers["dns"]
        assert isinstance(cloud, AwsCloud)
        assert isinstance(dns, Route53)
        assert (cloud._ec2._imds_v1, cloud._imds._allow_v1, dns._imds_v1) == (allowed,) * 3
