"""Power cuts: a member's volume as it was after each of some writes, with a real etcd that was being written to.

One run is recorded, from the blank disk on: `protokube --once` formats and mounts, etcd runs on the volume, a client
writes 60 KB at a time and notes where the log stood when each write was acknowledged. Then the disk is made again as
it was at a cut, a node is switched on with it, and both the member and every acknowledged write must be there.
"""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab.trial import TrialNode
from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.images import MIB, blank, write
from tests.safety.recorder import Write, recorded, replay, writes

_SIZE = 256 * MIB
_SEED_SIZE = 96 * MIB
_SEED_IMAGE = "registry.k8s.io/etcd:3.6.6-0"
_SEEDS = Path(__file__).parents[1] / "adapters/data"
_DATA = members.MOUNT + "/var/etcd/data"
_URL = "http://127.0.0.1:4001/v3/kv"

_CLIENT = """
import base64, json, os, sys, urllib.request
log, url, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
value = base64.b64encode(os.urandom(60_000)).decode()
for number in range(first, last):
    body = json.dumps({"key": base64.b64encode(b"k%05d" % number).decode(), "value": value}).encode()
    urllib.request.urlopen(urllib.request.Request(url + "/put", body), timeout=20).read()
    print(number, os.stat(log).st_size, flush=True)
"""
_READER = """
import base64, json, sys, urllib.request
def b64(text): return base64.b64encode(text).decode()
body = json.dumps({"key": b64(b"k"), "range_end": b64(b"l"), "keys_only": True}).encode()
answer = json.load(urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/range", body), timeout=20))
print(json.dumps([int(base64.b64decode(one["key"])[1:]) for one in answer.get("kvs", [])]))
"""


def jobs(folder: Path, cuts: int = 40, puts: int = 150) -> list[Job]:
    """One job for each cut, over a recording that the first one makes in `folder`; and the recorded seeds."""
    found = [Job("power", seed.name, _Seed(seed).run) for seed in sorted(_SEEDS.glob("power-cut-*.img.xz"))]
    if cuts:
        recording = Recording(folder)
        recording.make(puts)
        found += [Job("power", f"cut {number}", _Cut(recording, number).run) for number in recording.points(cuts)]
    return found


class Recording:
    """The log of one run. `acknowledged` pairs each key's number with the log's size when etcd said it was safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "writes.log"
        self.acknowledged: list[tuple[int, int]] = []
        self.writes: list[Write] = []
        self._memories: list[tuple[int, bytes]] = []

    def make(self, puts: int) -> None:
        """Run a node from the blank disk on."""
        export = members.image_of(self._folder)
        export.parent.mkdir(parents=True)
        with recorded(export, _SIZE, self.log), members.member(self._folder, _SIZE) as node:
            done = node.once()
            assert done.returncode == 0, done.stdout + done.stderr
            self._remember()
            etcd = start_etcd(node)
            for first in range(0, puts, puts // 3):
                self._put(node, first, first + puts // 3)
                node.once()  # it notes that etcd has started
                self._remember()
            etcd.kill()
        self.writes = writes(self.log)

    def _remember(self) -> None:
        """What the cloud remembers of the volume, beside its image, and since when."""
        memory = Path(f"{members.image_of(self._folder)}.state").read_bytes()
        self._memories.append((self.log.stat().st_size, memory))

    def memory(self, cut: int) -> bytes | None:
        """What the cloud remembered at a cut."""
        end = self.writes[cut - 1].end if cut else 0
        return next((memory for size, memory in reversed(self._memories) if size <= end), None)

    def _put(self, node: TrialNode, first: int, last: int) -> None:
        done = node.run(sys.executable, "-c", _CLIENT, str(self.log), _URL, str(first), str(last))
        assert done.returncode == 0, done.stderr
        self.acknowledged += [(int(key), int(size)) for key, size in map(str.split, done.stdout.splitlines())]

    def points(self, cuts: int) -> list[int]:
        """Numbers of writes: a quarter of them before etcd's first acknowledged one."""
        begun = next(number for number, one in enumerate(self.writes) if one.end >= self.acknowledged[0][1])
        early, late = cuts // 4, cuts - cuts // 4
        span = len(self.writes) - begun
        return sorted(
            {*(begun * n // early for n in range(early)), *(begun + span * n // late for n in range(1, late + 1))}
        )

    def keys(self, cut: int) -> set[int]:
        """What was acknowledged before a cut."""
        end = self.writes[cut - 1].end if cut else 0
        return {key for key, size in self.acknowledged if size <= end}


def start_etcd(node: TrialNode) -> subprocess.Popen[bytes]:
    """etcd as the member's manifest would run it, but alone, and with a snapshot every 200 writes."""
    data, peer = f"{node.root}{_DATA}", "http://127.0.0.1:2380"
    words = ["--name", "etcd-a", "--data-dir", data, "--snapshot-count", "200", "--initial-cluster", f"etcd-a={peer}"]
    words += ["--listen-client-urls", "http://127.0.0.1:4001", "--advertise-client-urls", "http://127.0.0.1:4001"]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    process = node.spawn("etcd.log", "etcd", *words)
    for _ in range(200):
        if process.poll() is not None:
            raise AssertionError(f"etcd ended: {node.log('etcd.log')[-2000:]}")
        if node.healthy():
            return process
    raise AssertionError(f"etcd doesn't answer: {node.log('etcd.log')[-2000:]}")


class _Cut:
    def __init__(self, recording: Recording, number: int) -> None:
        self._recording = recording
        self._number = number

    def run(self, scratch: Path) -> Iterator[Result]:
        """Switch a node on with the disk as it was, and read everything back."""
        recording = self._recording
        image = members.image_of(scratch)
        image.parent.mkdir()
        replay(recording.log, recording.writes[: self._number], image, _SIZE)
        if memory := recording.memory(self._number):
            Path(f"{image}.state").write_bytes(memory)
        expected = recording.keys(self._number)
        case = f"after write {self._number} of {len(recording.writes)}, {len(expected)} acknowledged"
        with members.member(scratch, _SIZE) as node:
            trouble = members.serves(node, node.report("--timeout", "10"))
            if not trouble and expected:
                start_etcd(node)
                read = node.run(sys.executable, "-c", _READER, _URL)
                lost = expected - set(json.loads(read.stdout or "[]"))
                trouble = f"lost keys {sorted(lost)[:5]}: {read.stderr}" if lost else ""
        yield Result("power", case, trouble)


class _Seed:
    """A volume that was cut off while etcd wrote, and that needed a human once."""

    def __init__(self, seed: Path) -> None:
        self._seed = seed

    def run(self, scratch: Path) -> Iterator[Result]:
        """Switch a node on with it."""
        with members.member(scratch, _SEED_SIZE, image=_SEED_IMAGE) as node:
            unpack(self._seed, members.image_of(scratch))
            trouble = members.serves(node, node.report("--timeout", "10"))
        yield Result("power", self._seed.name, trouble)


def unpack(seed: Path, image: Path) -> None:
    """A seed's image, with its holes."""
    blank(image, _SEED_SIZE)
    with lzma.open(seed) as file:
        for offset in range(0, _SEED_SIZE, MIB):
            piece = file.read(MIB)
            if piece.count(0) != len(piece):
                write(image, offset, piece)
