"""Words of others, read by our parsers: whatever they are, only the error that a parser documents comes out.

Each parser gets what once failed (tests/safety/data/input), then texts that hypothesis makes: noise, and good ones
with some pieces changed, cut or doubled. They are the same in every run.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from protokube.cloudprovider.static import state
from protokube.cloudprovider.static.inventory import read_inventory
from protokube.core import untrusted_yaml
from protokube.core.disks.identity import parse_identity
from protokube.core.dns.nameserver import parse_keyfile, parse_server
from protokube.core.etcd.template import parse_template
from protokube.core.static_pod import manifest_env, manifest_image
from protokube.core.volumes.tags import parse_spec
from protokube.dnsprovider import backup, hosts_text
from protokube.errors import ProviderError
from protokube.etcdclient.peers import parse_members
from protokube.host.disk import ext4, intent
from protokube.kernel import mountinfo
from tests.lab.disks import UUID
from tests.safety import answers, wire
from tests.safety.claims import Job, Result
from tests.safety.images import MIB, record
from tests.safety.members import identity, kops_manifest

_FAILED_ONCE = Path(__file__).parent / "data/input"
_TEMPLATE = Path(__file__).parents[2] / "templates/etcd/main.yaml"


@dataclass(frozen=True)
class Parser:
    """`read` is given bytes; `documented` are the errors that its documentation names; `good` are inputs it takes."""

    read: Callable[[bytes], object]
    documented: tuple[type[Exception], ...]
    good: tuple[bytes, ...]


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode(errors="backslashreplace"))


def _intent_with(text: bytes) -> bytes:
    """A record whose checksum is right, whatever it says."""
    head = struct.pack("<8sI32s", b"PKINTENT", len(text), hashlib.sha256(text).digest())
    return (head + text).ljust(intent.LENGTH, b"\0")


_INTENT_ERRORS = tuple(one for one in vars(intent).values() if isinstance(one, type) and issubclass(one, Exception))
_MEMBERS = json.dumps(
    [{"id": 1, "name": "etcd-a", "peerURLs": ["http://etcd-a:2380"], "clientURLs": ["http://etcd-a:4001"]}]
).encode()
_STATE = json.dumps(
    {
        "version": 1,
        "holder": {"node": "a", "internal": ["10.0.0.1"], "external": [], "root": "/", "mountNamespace": "mnt:[1]"},
        "tags": {"k": "v"},
    }
).encode()
_INVENTORY = (
    b"cluster: c.example.com\nnodes: [{name: a}]\nvolumes:\n- {id: v, file: v.img, size: 1GiB, tags: {a: b}}\n"
)
_KEY = b'key "k" { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };'
_HOSTS = (
    b"127.0.0.1 localhost\n# Begin host entries managed by protokube - do not edit\n10.0.0.1\ta.example.com b\n"
    b"# End host entries managed by protokube\n::1 localhost\n"
)
_SUPERBLOCK = struct.pack("<14I", 24576, 98304, 0, 0, 0, 1, 0, 0, 8192, 8192, 2048, 0, 0, 0xEF530000).ljust(
    1024, b"\0"
)
_MOUNT = b"36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/loop0 rw,errors=remount-ro"


def _load_state(data: bytes) -> object:
    path = Path("state")  # in the job's own folder
    path.write_bytes(data)
    return state.load(str(path))


PARSERS: dict[str, Parser] = {
    "intent": Parser(
        lambda data: intent.decode(data.ljust(intent.LENGTH, b"\0")),
        _INTENT_ERRORS,
        (record(64 * MIB), record(320 * MIB, UUID, "vol-b")),
    ),
    "intent-text": Parser(
        lambda data: intent.decode(_intent_with(data)), _INTENT_ERRORS, (record(MIB)[44:400].rstrip(b"\0"),)
    ),
    "superblock": Parser(lambda data: ext4.parse(data.ljust(1024, b"\0")[:1024]), (), (_SUPERBLOCK,)),
    "identity": Parser(_text(parse_identity), (), (identity().encode(),)),
    "manifest": Parser(
        _text(lambda text: (manifest_env(text), manifest_image(text))), (), (kops_manifest().encode(),)
    ),
    "template": Parser(
        _text(lambda text: parse_template("main", "main.yaml", text, "")), (), (_TEMPLATE.read_bytes(),)
    ),
    "yaml": Parser(_text(untrusted_yaml.load), (yaml.YAMLError,), (identity().encode(), kops_manifest().encode())),
    "etcd-tag": Parser(_text(lambda text: parse_spec("main", text)), (), (b"a/a,b,c",)),
    "etcd-peers": Parser(parse_members, (ValueError, RecursionError), (_MEMBERS,)),
    "volume-state": Parser(_load_state, (ProviderError,), (_STATE,)),
    "inventory": Parser(_text(lambda text: read_inventory(text, "/inventory.yaml")), (), (_INVENTORY,)),
    "name-server": Parser(_text(parse_server), (), (b"[2001:db8::1]:53", b"ns.example.com:53")),
    "tsig-key": Parser(_text(lambda text: parse_keyfile(text, "key")), (), (_KEY,)),
    "hosts": Parser(_text(hosts_text.parse), (), (_HOSTS,)),
    "hosts-backup": Parser(backup.unpack, (), (backup.pack(b"old", b"new"),)),
    **{name: Parser(*reader) for name, reader in answers.readers(ProviderError).items()},
    **{name: Parser(*reader) for name, reader in wire.readers().items()},
    "mount-target": Parser(lambda data: mountinfo.Line(_mount_of(data)), (), (b"/mnt/a b", b"/mnt/\\134")),
}


def _mount_of(target: bytes) -> bytes:
    """A line as the kernel writes it for this mount point: it escapes four characters (fs/proc_namespace.c)."""
    words = target.replace(b"\0", b"")
    for character in (b"\\", b" ", b"\t", b"\n"):
        words = words.replace(character, b"\\%03o" % character[0])
    return _MOUNT.replace(b"/mnt/a\\040b", b"/" + words) + b"\n"


def changed(good: bytes) -> st.SearchStrategy[bytes]:
    """A good input with some pieces replaced, left out or doubled."""
    spans = st.tuples(
        st.integers(0, len(good)), st.integers(0, 40), st.binary(max_size=12) | st.sampled_from(_PIECES)
    )

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = good
        for start, length, piece in edits:
            data = data[:start] + piece + data[start + length :]
        return data

    return st.lists(spans, min_size=1, max_size=5).map(apply)


_PIECES = (
    b"",
    b"\0",
    b"{",
    b"[" * 60,
    b"}",
    b"null",
    b"true",
    b"1e999",
    b"2001-99-99",
    b"!!python/object:x",
    b"&a",
    b"*a",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b": ",
    b"\n",
    b"\r\n",
    b"-",
    b'"',
    b"0x",
    "٣".encode(),
    b"'",
)


def jobs(examples: int = 600) -> list[Job]:
    """One job for each parser."""
    return [Job("input", name, _Reading(name, parser, examples).run) for name, parser in PARSERS.items()]


def replay(scratch: Path) -> Iterator[Result]:
    """What once failed, for every parser."""
    for name, parser in PARSERS.items():
        yield from _Reading(name, parser, 0).again(scratch)


class _Reading:
    def __init__(self, name: str, parser: Parser, examples: int) -> None:
        self._name = name
        self._parser = parser
        self._examples = examples

    def run(self, scratch: Path) -> list[Result]:
        """What once failed, then what hypothesis makes."""
        with chdir(scratch):  # some parsers keep files where they are
            return [*self._again(), *self._made()]

    def again(self, scratch: Path) -> list[Result]:
        """What once failed."""
        with chdir(scratch):
            return list(self._again())

    def _made(self) -> list[Result]:
        results: list[Result] = []
        strategies = [
            st.binary(max_size=400),
            st.text(max_size=200).map(str.encode),
            *map(changed, self._parser.good),
        ]

        @settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(strategies))
        def read(data: bytes) -> None:
            trouble = self._trouble(data)
            results.append(Result("input", f"{self._name}: {data[:200]!r}", trouble))

        read()
        return results

    def _again(self) -> Iterator[Result]:
        for path in sorted((_FAILED_ONCE / self._name).glob("*")):
            yield Result("input", f"{self._name}: {path.name}", self._trouble(path.read_bytes()))

    def _trouble(self, data: bytes) -> str:
        try:
            self._parser.read(data)
        except self._parser.documented:
            return ""
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            return f"{type(error).__name__}: {error}"
        return ""
