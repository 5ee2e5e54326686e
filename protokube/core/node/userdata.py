"""User-data that makes a stock Debian machine a node at its first boot, as a #cloud-config document.

cloud-init writes the files in its network stage. Its last stage starts nodeup.service without waiting for it. At
later boots systemd starts the unit by itself.
"""

from __future__ import annotations

import base64
import json
import posixpath
import zlib
from collections.abc import Iterator, Mapping, Sequence

import yaml
from msgspec import Struct

from protokube.core.model import Rejected
from protokube.core.node.assets import Asset
from protokube.core.node.image import secret_in
from protokube.core.node.settings import NodeupSettings
from protokube.core.node.unit_files import FOLDER, NODEUP, with_program
from protokube.core.node.wanted import NODEUP_CONFIG

LIMIT = 16_384
"""Bytes that EC2 takes, before base64 (EC2's documentation, "Run commands when you launch an EC2 instance")."""
PROGRAMS = ("/usr/bin/protokube", "/usr/local/bin/protokube")
PROGRAM_FILE = "/etc/protokube/program.json"
FETCHER = "/usr/lib/protokube/fetch-program"
SIZE, SECRET = "user-data/size", "user-data/secret"

_HEAD = (
    "#cloud-config\n# By `nodeup --target cloudinit`: makes a stock Debian a node of {cluster} at its first boot.\n"
)
_FETCH = f"""\
# Written by cloud-init. The first start fetches the program; nodeup keeps it up to date.
[Service]
ExecStartPre={FETCHER} {PROGRAM_FILE}
"""
_COMMANDS = [
    ["systemctl", "daemon-reload"],
    ["systemctl", "enable", NODEUP],
    ["systemctl", "start", "--no-block", NODEUP],
]


class _File(Struct, frozen=True):
    path: str
    content: str
    mode: str = "0644"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def user_data(settings: NodeupSettings, units: Mapping[str, str], fetcher: str) -> str | Rejected:
    """The document. Its files are compressed where it would be too large otherwise.

    `units` are the units that ship with the program; `fetcher` is the script that gets the program.
    """
    if secret := _secret(settings):
        evidence = f"{secret}, and every process of the machine can read user-data; let the node have it otherwise"
        return Rejected(SECRET, evidence)
    program = _program(settings.assets)
    if isinstance(program, Rejected):
        return program
    files = _files(settings, program, units, fetcher)
    link = _program_link(program)
    if any(asset.path == link for asset in settings.assets):
        evidence = (
            f"{link} is an asset as well, where the machine gets a link to the program; take it out of `assets`"
        )
        return Rejected("user-data/program", evidence)
    for compressed in (False, True):
        text = _document(settings, files, compressed)
        if (size := len(text.encode())) <= LIMIT:
            return text
    evidence = f"{size} bytes with its files compressed (expected {LIMIT} or fewer, which is what EC2 takes)"
    return Rejected(SIZE, f"{evidence}; fetch what is large as an asset instead of writing it into `files`")


def _secret(settings: NodeupSettings) -> str | None:
    """What the configuration holds that user-data must not."""
    # YAML may spell a text in several ways: `-----BEGIN PRIVATE\x20KEY-----`. What it means counts as well.
    contents = [*(file.content for file in settings.files), *(unit.content or "" for unit in settings.units)]
    protokube = settings.protokube.plain() if settings.protokube is not None else None
    for text in (settings.text, *contents, *_texts_in(protokube)):
        if what := secret_in("", text.encode()):
            return f"the configuration holds {what}"
    return None


def _texts_in(value: object) -> Iterator[str]:
    """Every text in a YAML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _program(assets: Sequence[Asset]) -> Asset | Rejected:
    found = [asset for asset in assets if asset.path in PROGRAMS]
    if len(found) == 1:
        return found[0]
    return Rejected(
        "user-data/program",
        f"{len(found) or 'no'} assets have the path {PROGRAMS[0]} (expected one: protokube.pyz, by urls and sha256); "
        "the machine has no other way to the program"
        + (", and user-data is for one architecture" * (len(found) > 1)),
    )


def _program_link(program: Asset) -> str:
    """The program's other name, by which it is nodeup."""
    assert program.path is not None
    return posixpath.join(posixpath.dirname(program.path), "nodeup")


def _files(settings: NodeupSettings, program: Asset, units: Mapping[str, str], fetcher: str) -> list[_File]:
    nodeup = _program_link(program)
    what = {"path": program.path, "link": nodeup, "sha256": program.sha256, "urls": program.urls}
    return [
        _File(NODEUP_CONFIG, settings.text, "0600"),
        _File(PROGRAM_FILE, json.dumps(what, indent=1) + "\n", "0600"),
        _File(FETCHER, fetcher, "0755"),
        _File(f"{FOLDER}/{NODEUP}", with_program(units[NODEUP], {"nodeup": nodeup})),
        _File(f"{FOLDER}/{NODEUP}.d/10-program.conf", _FETCH),
    ]


def _document(settings: NodeupSettings, files: Sequence[_File], compressed: bool) -> str:
    entries = []
    for file in files:
        entry = {"path": file.path, "permissions": file.mode, "content": file.content}
        if compressed:
            packed = zlib.compress(file.content.encode(), 9, wbits=31)  # gzip's format, without a time
            entry |= {"encoding": "gz+b64", "content": base64.b64encode(packed).decode()}
        entries.append(entry)
    document = {"write_files": entries, "runcmd": _COMMANDS}
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return _HEAD.format(cluster=settings.cluster) + body
