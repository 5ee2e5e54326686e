"""The metadata client against a real HTTP server that has IMDS's manners, good and bad."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from protokube.awsenv import environment_faults
from protokube.cloudprovider.aws.imds import IPV4_ENDPOINT, IPV6_ENDPOINT, IdentityDocument, Imds, endpoints
from protokube.errors import ProviderError
from tests.lab.imds import DOCUMENT_PATH, ImdsServer, Metadata
from tests.lab.netns import Network

INSTANCE = "i-0123456789abcdef0"


def metadata() -> Metadata:
    return Metadata(INSTANCE, "us-east-1", "us-east-1a", "10.0.0.1", public_ipv4="203.0.113.9")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImdsServer]:
    with ImdsServer(metadata()) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def test_one_document_says_who_where_and_which_address(server: ImdsServer) -> None:
    imds = Imds()
    assert imds.document() == IdentityDocument(INSTANCE, "us-east-1", "us-east-1a", "10.0.0.1")
    assert imds.document().zone == "us-east-1a"
    assert server.requests == [("PUT", "/latest/api/token"), ("GET", DOCUMENT_PATH)]


def test_one_token_serves_many_requests(server: ImdsServer) -> None:
    imds = Imds()
    for _ in range(5):
        assert imds.get("public-ipv4") == "203.0.113.9"
    assert len(server.paths("PUT")) == 1


def test_an_item_that_is_not_there_is_none(server: ImdsServer) -> None:
    assert Imds().get("ipv6") is None


def test_the_document_of_an_ipv6_only_instance_has_no_address(server: ImdsServer) -> None:
    server.metadata.private_ip = None
    assert Imds().document().private_ip is None


def test_a_token_is_renewed_before_it_expires(server: ImdsServer) -> None:
    server.longest_ttl = 1
    imds = Imds()
    imds.get("public-ipv4")
    time.sleep(1.0)
    assert imds.get("public-ipv4") == "203.0.113.9"
    assert len(server.paths("PUT")) == 2
    assert len(server.paths("GET")) == 2  # none was refused for an expired token


def test_a_refused_token_is_replaced_once(server: ImdsServer) -> None:
    imds = Imds()
    imds.get("public-ipv4")
    server.revoke_tokens()
    assert imds.get("public-ipv4") == "203.0.113.9"
    assert [method for method, _ in server.requests] == ["PUT", "GET", "GET", "PUT", "GET"]


def test_tokens_that_are_always_refused_end_in_an_error(server: ImdsServer) -> None:
    server.failing = 401
    with pytest.raises(ProviderError, match="401"):
        Imds().get("public-ipv4")
    assert len(server.requests) <= 4


def test_the_hop_limit_is_explained(server: ImdsServer) -> None:
    server.hop_limit_reached = True
    with pytest.raises(ProviderError, match=r"hop limit of 1.*raise --http-put-response-hop-limit to 2"):
        Imds().document()


def test_version_1_passes_the_hop_limit_when_allowed(server: ImdsServer) -> None:
    server.hop_limit_reached = True
    server.tokens_required = False
    assert Imds(allow_v1=True).document().instance_id == INSTANCE


def test_a_disabled_service_is_explained(server: ImdsServer) -> None:
    server.disabled = True
    with pytest.raises(ProviderError, match=r"switched off.*--http-endpoint enabled"):
        Imds().document()


def test_disabled_by_the_environment(server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ProviderError, match="AWS_EC2_METADATA_DISABLED"):
        Imds().document()
    assert server.requests == []


def test_version_1_is_used_only_when_allowed(server: ImdsServer) -> None:
    server.version_1_only = True
    with pytest.raises(ProviderError, match="version 1 only"):
        Imds().document()
    assert server.paths() == []  # nothing was asked without a token
    assert Imds(allow_v1=True).document().instance_id == INSTANCE


def test_a_token_is_used_where_there_is_one_even_if_version_1_is_allowed(server: ImdsServer) -> None:
    assert Imds(allow_v1=True).document().instance_id == INSTANCE
    assert len(server.paths("PUT")) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_service_is_an_error_and_not_an_absent_item(server: ImdsServer, status: int) -> None:
    imds = Imds()
    imds.document()
    server.failing = status
    with pytest.raises(ProviderError, match=f"HTTP {status}"):
        imds.get("public-ipv4")


@pytest.mark.parametrize(
    "answer", ["", "abc\n", "a b", "<html>\n<body>Log in</body>\r\n</html>", "\x00abc", "jeton-é"]
)
def test_what_is_no_token_is_refused(server: ImdsServer, answer: str) -> None:
    server.not_a_token = answer
    with pytest.raises(ProviderError, match=r"/latest/api/token: the answer is no token \(b.*something else"):
        Imds().document()
    assert server.paths() == []


@pytest.mark.parametrize("lifetime", ["-3", "soon", "²", "9" * 400])
def test_a_lifetime_that_is_none_counts_as_the_longest(server: ImdsServer, lifetime: str) -> None:
    server.told_ttl = lifetime
    imds = Imds()
    assert imds.document().instance_id == INSTANCE
    assert imds.get("public-ipv4") == "203.0.113.9"
    assert len(server.paths("PUT")) == 1


def document(**fields: object) -> str:
    """An identity document with other fields than usual."""
    usual = {"instanceId": INSTANCE, "region": "us-east-1", "availabilityZone": "us-east-1a", "privateIp": "10.0.0.1"}
    return json.dumps(usual | fields)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>proxy login</html>",
        "[]",
        '"text"',
        '{"instanceId": "i-1"}',
        '{"instanceId": 1, "region": 2}',
        "[" * 65000,
        document(region="us east/1"),
        document(instanceId=""),
        document(availabilityZone=["us-east-1a"]),
        document(instanceId=json.loads("[" * 150 + "]" * 150)),
        document(privateIp=5),
        document(privateIp={"v4": "10.0.0.1"}),
    ],
)
def test_what_is_no_document_is_refused(server: ImdsServer, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(server.metadata, "item", lambda _: body)
    with pytest.raises(ProviderError, match="identity document"):
        Imds().document()


def test_no_document_at_all_is_refused(server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.metadata, "item", lambda _: None)
    with pytest.raises(ProviderError, match="identity document"):
        Imds().document()


def test_an_answer_that_breaks_off_is_no_answer(server: ImdsServer) -> None:
    """203.0.113.1 would be an address as well."""
    server.metadata.public_ipv4 = "203.0.113.19"
    server.lacking = 1
    with pytest.raises(ProviderError, match="IncompleteRead"):
        Imds().get("public-ipv4")


def test_an_unreachable_service_is_explained(server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(ProviderError, match="cannot reach"):
        Imds().document()


def test_no_proxy_stands_between(server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert Imds().document().instance_id == INSTANCE


def test_an_ipv6_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with ImdsServer(metadata(), address="::1") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert Imds().document().instance_id == INSTANCE


def test_the_endpoint_follows_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    assert endpoints() == (IPV4_ENDPOINT, IPV6_ENDPOINT)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")
    assert endpoints() == (IPV6_ENDPOINT,)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4")
    assert endpoints() == (IPV4_ENDPOINT,)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://metadata.example.com/")
    assert endpoints() == ("http://metadata.example.com",)


@pytest.mark.root
@pytest.mark.parametrize("well_known", ["169.254.169.254", "fd00:ec2::254"])
def test_the_service_is_found_at_either_of_its_addresses(monkeypatch: pytest.MonkeyPatch, well_known: str) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    with Network() as network:
        node = network.node()
        with node.inside(), pytest.raises(ProviderError, match=r"169\.254\.169\.254 \(.*or http://\[fd00:ec2::254\]"):
            Imds().document()
        node.ip("addr", "add", well_known, "dev", "lo", *(["nodad"] if ":" in well_known else []))
        with node.inside(), ImdsServer(metadata(), well_known, 80) as server:
            imds = Imds()
            assert [imds.document().instance_id, imds.get("public-ipv4")] == [INSTANCE, "203.0.113.9"]
            assert len(server.requests) == 3


BAD_URLS = [
    "ftp://x",
    "https://h",
    "169.254.169.254",
    "http://",
    "http://h:abc",
    "http://h:0",
    "http://h:99999",
    "http://[::1",
    "http://[::g]",
    "http://x y/",
    "http://x..y/",
    "http://" + "x" * 64,
    "http://häuschen",
    "http://h/a\nb",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    (fault,) = environment_faults({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})
    assert fault.message == f"{url!r} where http://HOST[:PORT] was expected"


@pytest.mark.parametrize("host", ["h", "Metadata_1.example.com.", "[fd00:ec2::254]", "[fe80::1%25eth0]"])
@pytest.mark.parametrize("rest", ["", "/", ":1", ":65535/a/b/"])
def test_an_endpoint_that_may_be_one_is_not(host: str, rest: str) -> None:
    assert not environment_faults({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}{rest}"})


def test_an_endpoint_with_a_path(server: ImdsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{server.url}/proxy/")
    with pytest.raises(ProviderError, match="404"):
        Imds().document()
    assert server.requests == [("PUT", "/proxy/latest/api/token")]


# --- the environment as a whole ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AWS_ENDPOINT_URL", "ec2.us-east-1.amazonaws.com", "https://HOST"),
        ("AWS_ENDPOINT_URL_EC2", "10.77.0.1:5000", "https://HOST"),
        ("AWS_ENDPOINT_URL_ROUTE_53", "not a url", "https://HOST"),
        ("AWS_ENDPOINT_URL_STS", "ftp://sts", "https://HOST"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "https://169.254.169.254", "http://HOST"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv5", "IPv4 or IPv6"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "abc", "a whole number from 1"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "", "a whole number from 1"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "0", "a whole number from 1"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "2.5", "a whole number from 1"),
    ],
)
def test_a_bad_variable_is_named_with_its_value_and_what_was_expected(name: str, value: str, expected: str) -> None:
    (fault,) = environment_faults({name: value})
    assert fault.place == f"environment variable {name}"
    assert f"{value!r} where " in fault.message
    assert expected in fault.message


def test_every_bad_variable_is_named_at_once() -> None:
    found = environment_faults({"AWS_ENDPOINT_URL": "x", "AWS_METADATA_SERVICE_TIMEOUT": "y", "AWS_PROFILE": "z"})
    assert [fault.place.split()[-1] for fault in found] == ["AWS_ENDPOINT_URL", "AWS_METADATA_SERVICE_TIMEOUT"]


def test_good_variables_are_no_faults() -> None:
    assert not environment_faults(
        {
            "AWS_ENDPOINT_URL": "",
            "AWS_ENDPOINT_URL_EC2": "https://vpce-1.ec2.us-east-1.vpce.amazonaws.com",
            "AWS_ENDPOINT_URL_ROUTE_53": "http://[::1]:5000/route53/",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv6",
            "AWS_METADATA_SERVICE_TIMEOUT": "5",
            "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "03",
        }
    )
