"""User-data: whole, within EC2's size, without a key, and the same for the same configuration."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.model import Rejected
from protokube.core.node.settings import read_settings
from protokube.core.node.userdata import LIMIT, user_data

HASH = "0f" * 32
ASSET = f'- {{path: /usr/bin/protokube, sha256: {HASH}, urls: ["https://a.example/p.pyz?sign=1", "file:///p"]}}\n'
CONFIG = f"cluster: dev.example.com\nassets:\n{ASSET}"
UNITS = {"nodeup.service": "[Service]\nExecStart=/usr/bin/nodeup --config x\n"}
KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA==\n-----END EC PRIVATE KEY-----\n"


def made(config: str = CONFIG, fetcher: str = "#!/usr/bin/python3\n") -> str | Rejected:
    settings, faults = read_settings(config, "node.yaml")
    assert faults == []
    return user_data(settings, UNITS, fetcher)


def document(config: str = CONFIG, fetcher: str = "#!/usr/bin/python3\n") -> tuple[dict[str, Any], dict[str, str]]:
    """The document, and its files as cloud-init would write them."""
    text = made(config, fetcher)
    assert isinstance(text, str)
    assert text.startswith("#cloud-config\n") and len(text.encode()) <= LIMIT
    parsed = yaml.safe_load(text)
    files = {}
    for file in parsed["write_files"]:
        content = file["content"]
        if "encoding" in file:
            assert file["encoding"] == "gz+b64"
            content = gzip.decompress(base64.b64decode(content)).decode()
        files[file["path"]] = content
    return parsed, files


def test_the_configuration_arrives_as_it_was_written_and_for_root_alone() -> None:
    parsed, files = document()
    assert files["/etc/protokube/nodeup.yaml"] == CONFIG
    modes = {file["path"]: file["permissions"] for file in parsed["write_files"]}
    assert modes == {
        "/etc/protokube/nodeup.yaml": "0600",
        "/etc/protokube/program.json": "0600",
        "/usr/lib/protokube/fetch-program": "0755",
        "/etc/systemd/system/nodeup.service": "0644",
        "/etc/systemd/system/nodeup.service.d/10-program.conf": "0644",
    }


def test_the_program_is_fetched_from_each_mirror_and_known_by_its_hash() -> None:
    _, files = document()
    assert json.loads(files["/etc/protokube/program.json"]) == {
        "path": "/usr/bin/protokube",
        "link": "/usr/bin/nodeup",
        "sha256": HASH,
        "urls": ["https://a.example/p.pyz?sign=1", "file:///p"],
    }
    assert (
        "ExecStartPre=/usr/lib/protokube/fetch-program /etc/protokube/program.json\n"
        in (files["/etc/systemd/system/nodeup.service.d/10-program.conf"])
    )


def test_nodeup_starts_where_the_program_goes() -> None:
    _, files = document(CONFIG.replace("/usr/bin/", "/usr/local/bin/"))
    assert "ExecStart=/usr/local/bin/nodeup --config x\n" in files["/etc/systemd/system/nodeup.service"]


def test_cloud_init_waits_for_nothing_and_starts_nothing_else() -> None:
    parsed, _ = document()
    assert parsed["runcmd"] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "nodeup.service"],
        ["systemctl", "start", "--no-block", "nodeup.service"],
    ]
    assert parsed.keys() == {"write_files", "runcmd"}


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("\t\n: #'\"|")))
def test_any_script_arrives_byte_by_byte(script: str) -> None:
    _, files = document(fetcher=script)
    assert files["/usr/lib/protokube/fetch-program"] == script


def test_what_is_too_large_as_text_is_compressed() -> None:
    config = CONFIG + "files:\n" + "".join(f'- {{path: /etc/f{one}, content: "{"x" * 200}"}}\n' for one in range(99))
    assert len(config) > LIMIT
    parsed, files = document(config)
    assert {file["encoding"] for file in parsed["write_files"]} == {"gz+b64"}
    assert files["/etc/protokube/nodeup.yaml"] == config
    assert made(config) == made(config)


def test_what_is_too_large_when_compressed_is_refused_with_its_size() -> None:
    noise = base64.b64encode(b"".join(str(one).encode() for one in range(12_000))).decode()
    refused = made(f'{CONFIG}files: [{{path: /etc/f, content: "{noise}"}}]\n')
    assert isinstance(refused, Rejected)
    assert refused.rule == "user-data/size"
    assert f"(expected {LIMIT} or fewer" in refused.evidence
    assert int(refused.evidence.split()[0]) > LIMIT


@pytest.mark.parametrize(
    "content",
    [
        KEY,
        f"client-key-data: {base64.b64encode(KEY.encode()).decode()}\n",
        KEY.replace("EC PRIVATE", "OPENSSH PRIVATE"),
        KEY.replace("EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
        base64.encodebytes(b"\n" + KEY.encode()).decode(),
        base64.encodebytes(b"ab" + KEY.encode() * 3).decode().replace("\n", "\n    "),
        base64.encodebytes(bytes.fromhex("302e020100300506032b657004220420") + bytes(32)).decode(),
        base64.encodebytes(bytes.fromhex("308204a40201000282010100") + bytes(range(200))).decode(),
    ],
    ids=["pem", "kubeconfig", "ssh", "pgp", "new-line-first", "wrapped", "pkcs8", "pkcs1"],
)
def test_a_private_key_is_refused_and_not_shown(content: str) -> None:
    refused = made(CONFIG + "files: [{path: /etc/key, content: " + json.dumps(content) + "}]\n")
    assert isinstance(refused, Rejected)
    assert refused.rule == "user-data/secret"
    assert "MHcC" not in refused.evidence


@pytest.mark.parametrize("place", ["files: [{path: /etc/key, content: %s}]", "protokube: {node: %s}"])
def test_a_private_key_is_found_however_yaml_spells_it(place: str) -> None:
    refused = made(CONFIG + place % json.dumps(KEY).replace(" KEY", "\\x20KEY") + "\n")
    assert isinstance(refused, Rejected) and refused.rule == "user-data/secret"


@pytest.mark.parametrize("length", range(14, 22))
def test_a_text_that_begins_like_a_key_may_end_anywhere(length: int) -> None:
    encoded = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()[:length]
    assert isinstance(made(f"{CONFIG}files: [{{path: /etc/x, content: {encoded}}}]\n"), str)


def test_a_certificate_and_a_bootstrap_token_are_no_such_secret() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    encoded = base64.b64encode(certificate.encode()).decode()
    content = json.dumps(f"token: abcdef.0123456789abcdef\nca: {encoded}\n{certificate}")
    assert isinstance(made(f"{CONFIG}files: [{{path: /etc/x, content: {content}}}]\n"), str)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("cluster: dev.example.com\n", "no assets have the path /usr/bin/protokube (expected one:"),
        (CONFIG.replace("urls", "arch: amd64, urls") + ASSET.replace("urls", "arch: arm64, urls"),
         "user-data is for one architecture"),
        (CONFIG + ASSET.replace("protokube", "nodeup"), "/usr/bin/nodeup is an asset as well"),
    ],
    ids=["none", "two", "link"],
)  # fmt: skip
def test_without_the_one_program_there_is_no_user_data(config: str, said: str) -> None:
    refused = made(config)
    assert isinstance(refused, Rejected)
    assert refused.rule == "user-data/program"
    assert said in refused.evidence
