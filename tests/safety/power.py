"""Power cuts: a member's volume as it was after each of some writes, with a real etcd that was being written to.

One run is recorded, from the blank disk on: `protokube --once` formats, mounts and links the manifest, etcd runs from
it, a client writes 60 KB at a time and notes where the log stood when each write was acknowledged. Then the disk is
made again as it was at a cut, and a node is switched on with it. It must run etcd from its manifest without a human's
help, take a further write, and have every acknowledged one.
"""

from __future__ import annotations

import json
import lzma
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab.trial import CHECKOUT, TrialNode
from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.images import MIB, blank, write
from tests.safety.recorder import Write, recorded, replay, writes

_SIZE = 256 * MIB
_SEED_SIZE = 96 * MIB
_SEED_IMAGE = "registry.k8s.io/etcd:3.6.6-0"
_SEEDS = Path(__file__).parents[1] / "adapters/data"
_TEMPLATES = CHECKOUT / "templates/etcd"
_TOKEN = "        - {name: ETCD_INITIAL_CLUSTER_TOKEN"
_SNAPSHOTS = '        - {name: ETCD_SNAPSHOT_COUNT, value: "200"}\n'
"""etcd's default is a snapshot in 100,000 writes: none of these runs would see one."""
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
import base64, json, sys, time, urllib.request
def b64(text): return base64.b64encode(text).decode()
def ask(what, **body):
    request = urllib.request.Request(f"{sys.argv[1]}/{what}", json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=20))
end = time.monotonic() + 60
while True:
    try:
        ask("put", key=b64(b"back"), value=b64(b"yes"))
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.05)
answer = ask("range", key=b64(b"k"), range_end=b64(b"l"), keys_only=True)
print(json.dumps([int(base64.b64decode(one["key"])[1:]) for one in answer.get("kvs", [])]))
"""


def jobs(folder: Path, cuts: int = 100, reordered: int = 20, puts: int = 150) -> list[Job]:
    """One job for each cut of a recording that is made in `folder`, and for each seed.

    `cuts` are prefixes of the log. At the `reordered` ones the disk kept some of the writes since its last flush.
    """
    found = [Job("power", seed.name, _Seed(seed).run) for seed in sorted(_SEEDS.glob("power-cut-*.img.xz"))]
    if cuts:
        recording = Recording(folder)
        recording.make(puts)
        found += [Job("power", f"cut {number}", _Cut(recording, number).run) for number in recording.points(cuts)]
        found += [
            Job("power", f"cut {number}, reordered", _Cut(recording, number, reordered=True).run)
            for number in recording.points(reordered)
        ]
    return found


class Recording:
    """The log of one run. `acknowledged` pairs each key's number with the log's size when etcd said it was safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "writes.log"
        self.templates = folder / "templates"
        self.acknowledged: list[tuple[int, int]] = []
        self.writes: list[Write] = []
        self._memories: list[tuple[int, bytes]] = []

    def make(self, puts: int) -> None:
        """Run a node from the blank disk on."""
        export = members.image_of(self._folder)
        export.parent.mkdir(parents=True)
        shutil.copytree(_TEMPLATES, self.templates)
        pod = self.templates / "manifest.yaml"
        pod.write_text(pod.read_text().replace(_TOKEN, _SNAPSHOTS + _TOKEN))
        with recorded(export, _SIZE, self.log), members.member(self._folder, _SIZE, options=self.options) as node:
            done = node.once()
            assert done.returncode == 0, done.stdout + done.stderr
            self._remember()
            node.start_pods()
            read_back(node)
            for first in range(0, puts, puts // 3):
                self._put(node, first, first + puts // 3)
                node.once()  # it notes that etcd has started
                self._remember()
        self.writes = writes(self.log)

    @property
    def options(self) -> tuple[str, ...]:
        """What protokube is told."""
        return ("--template-dir", str(self.templates))

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


def read_back(node: TrialNode) -> set[int]:
    """Write a key as soon as etcd takes it; then the keys that it has of the client's."""
    done = node.run(sys.executable, "-c", _READER, _URL)
    assert done.returncode == 0, f"etcd doesn't take a write: {done.stderr[-300:]}\n{node.pod_logs()[-2000:]}"
    return set(json.loads(done.stdout))


class _Cut:
    def __init__(self, recording: Recording, number: int, *, reordered: bool = False) -> None:
        self._recording = recording
        self._number = number
        self._reordered = reordered

    def run(self, scratch: Path) -> Iterator[Result]:
        """Switch a node on with the disk as it was, and read everything back."""
        recording = self._recording
        image = members.image_of(scratch)
        image.parent.mkdir()
        replay(recording.log, self._kept(), image, _SIZE)
        if memory := recording.memory(self._number):
            Path(f"{image}.state").write_bytes(memory)
        expected = recording.keys(self._number)
        how = ", reordered" if self._reordered else ""
        case = f"after write {self._number} of {len(recording.writes)}{how}, {len(expected)} acknowledged"
        with members.member(scratch, _SIZE, options=recording.options) as node:
            trouble = members.serves(node, node.report("--timeout", "100"))
            if not trouble:
                node.start_pods()
                lost = expected - read_back(node)
                trouble = f"lost keys {sorted(lost)[:5]}" if lost else ""
        yield Result("power", case, trouble)

    def _kept(self) -> list[Write]:
        """The writes that reached the disk, in the order in which they did."""
        done = self._recording.writes[: self._number]
        if not self._reordered or not done:
            return done
        safe, cached = done[: done[-1].flushed], done[done[-1].flushed :]
        lot = random.Random(self._number)
        return [*safe, *lot.sample(cached, lot.randint(0, len(cached)))]


class _Seed:
    """A volume that was cut off while etcd wrote, and that needed a human once."""

    def __init__(self, seed: Path) -> None:
        self._seed = seed

    def run(self, scratch: Path) -> Iterator[Result]:
        """Switch a node on with it."""
        with members.member(scratch, _SEED_SIZE, image=_SEED_IMAGE) as node:
            unpack(self._seed, members.image_of(scratch))
            trouble = members.serves(node, node.report("--timeout", "100"))
        yield Result("power", self._seed.name, trouble)


def unpack(seed: Path, image: Path) -> None:
    """A seed's image, with its holes."""
    blank(image, _SEED_SIZE)
    with lzma.open(seed) as file:
        for offset in range(0, _SEED_SIZE, MIB):
            piece = file.read(MIB)
            if piece.count(0) != len(piece):
                write(image, offset, piece)
