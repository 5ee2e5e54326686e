"""A real systemd as PID 1 of its own namespaces, over a copy-on-write overlay of this machine's root.

Needs root and Debian's systemd, systemd-container and dbus; the machine itself needn't run systemd. A boot
takes 0.3 s, so every test has a node of its own:

    with SystemdNode(tmp_path, files={"/etc/systemd/system/x.service": UNIT}) as node:
        node.run("systemctl", "start", "x")
        bus = MessageBus(bus_address=node.bus_address)     # from outside, through /proc/PID/root

The node sees this machine's root file system and writes to memory. It has this checkout and its virtual environment
at the paths of tests.lab.inside, read-only; the checkout's path on the machine is empty.
Its /dev is nspawn's: hand devices in with `binds` or make them with os.mknod(node.path("/dev/xvdu"), …).
No udev runs in it and sysfs is read-only, so .device units never come up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.lab import inside

BOOT_LIMIT = 300.0
STOP_LIMIT = 120.0
RUN_LIMIT = 120.0
"""Seconds that only a hang exceeds, however busy the machine is."""

MACHINE_CHECKOUT = Path(__file__).resolve().parents[2]

_BOOT = r"""
set -eu
eval "$NODE_BEFORE"
cgroups() {
    # The machine keeps its own cgroup mounts: this is a private mount namespace.
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 none /sys/fs/cgroup
}
cgroups
mkdir /sys/fs/cgroup/$NODE_CGROUP     # two nodes in one cgroup would share nspawn's /payload
echo $$ > /sys/fs/cgroup/$NODE_CGROUP/cgroup.procs

base=$1; shift
mount -t tmpfs -o mode=755 run "$base/run"
mkdir -p "$base/run/nspawn" /run/systemd/nspawn
mount --bind "$base/run/nspawn" /run/systemd/nspawn     # nspawn's own state
mountpoint -q "$base/fs" || mount -t tmpfs -o mode=755 node "$base/fs"
mkdir -p "$base/fs/upper" "$base/fs/work" "$base/fs/root"
root="$base/fs/root"
mount -t overlay overlay -o "lowerdir=$NODE_IMAGE,upperdir=$base/fs/upper,workdir=$base/fs/work" "$root"

if [ ! -e "$base/fs/prepared" ] && [ $NODE_IMAGE = / ]; then
    # What this machine would start at boot is none of the node's business.
    rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/*.requires
    rm -rf "$root/var/lib/etcd" "$root/var/log/journal"
    mkdir -p "$root/var/log/journal"
    ln -sf /lib/systemd/system/basic.target "$root/etc/systemd/system/default.target"
    for unit in systemd-update-utmp systemd-sysusers systemd-update-utmp-runlevel systemd-random-seed \
        systemd-network-generator systemd-resolved systemd-tmpfiles-setup-dev systemd-udevd \
        systemd-hwdb-update systemd-timesyncd etcd named bind9 podman; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
    done
    for unit in apt-daily apt-daily-upgrade man-db e2scrub_all fstrim dpkg-db-backup; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.timer"
    done
    rm -f "$root/etc/machine-id" "$root/etc/hostname"
    systemd-id128 new > "$root/etc/machine-id"
    echo $NODE_NAME > "$root/etc/hostname"
fi
if [ ! -e "$base/fs/prepared" ]; then
    if [ -d "$base/files" ]; then cp -a "$base/files/." "$root/"; fi
    touch "$base/fs/prepared"
fi

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_LOCK=0
exec systemd-nspawn --quiet --directory="$root" --boot --keep-unit --register=no --machine=$NODE_NAME \
    --notify-ready=yes --console=pipe --link-journal=no "$@"
"""

# Hands the v2 controllers that the machine has down to the node: container managers refuse an empty list.
_DELEGATE = r"""
cd /sys/fs/cgroup
for controller in $(cat cgroup.controllers); do
    echo +$controller > cgroup.subtree_control
    echo +$controller > $NODE_CGROUP/cgroup.subtree_control
done
"""

# The kernel empties a cgroup a moment after its last process: hence the few tries.
_CLEAN_CGROUP = r"""
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 1
for try in $(seq 40); do
    find /sys/fs/cgroup/$NODE_CGROUP -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d /sys/fs/cgroup/$NODE_CGROUP ] || exit 0
    sleep 0.05
done
echo "cgroup $NODE_CGROUP still in use" >&2; exit 1
"""

_PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private", "bash", "-c")


def _program() -> list[str]:
    """nspawn's arguments that show a node this checkout and its Python at the paths of `inside`, and nowhere else.

    The checkout's own path is hidden, so that a test which uses it in a node fails in every folder and not below /tmp
    alone. nspawn puts an empty /tmp over the machine's: nothing is left to hide there.
    """
    checkout, environment = (_escaped(path) for path in (MACHINE_CHECKOUT, Path(sys.prefix)))
    shown = [f"--bind-ro={checkout}:{inside.CHECKOUT}", f"--bind-ro={environment}:{inside.ENVIRONMENT}"]
    if not Path(sys.base_prefix).is_relative_to("/usr"):  # the environment links to it, and it may be mounted
        shown.append(f"--bind-ro={_escaped(Path(sys.base_prefix))}")
    return shown if MACHINE_CHECKOUT.is_relative_to("/tmp") else [f"--tmpfs={checkout}:mode=0755", *shown]


def _escaped(path: Path) -> str:
    """A path as an nspawn option takes it: a colon would end it."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:")


class SystemdNode:
    """One node. `base` is a directory of its own, which holds the console's log (`console.log`).

    `files`: path → text, copied over the root before the first boot; a text that starts with "#!" becomes
    executable. `netns`: the name of a network namespace below /run/netns, or the path of one; default: a new
    one that has loopback only. `binds`: paths of this machine to be seen in the node (loop devices,
    directories; "from:to" works too). `all_capabilities`: every capability that this machine has, as on a real
    machine; mount works without it. `seccomp=False` leaves out nspawn's and systemd's system call filters,
    which podman needs here. `delegate`: hand cgroup controllers down, which podman needs as well. `args`: more
    arguments of systemd-nspawn. `image`: the root of another system, which is booted as it is, with its own default
    target and all that it starts. `bare`: nothing of this checkout is shown to it. `before`: shell code that
    the node's first process, which becomes nspawn, runs while it still has the machine's cgroup mounts.
    """

    def __init__(
        self,
        base: Path,
        name: str = "node",
        *,
        files: Mapping[str, str] | None = None,
        netns: str | None = None,
        binds: Sequence[str | Path] = (),
        all_capabilities: bool = False,
        seccomp: bool = True,
        delegate: bool = False,
        args: Sequence[str] = (),
        image: Path = Path("/"),
        bare: bool = False,
        before: str = "",
    ) -> None:
        self.base = base
        self.name = name
        self.leader = 0
        self._files = dict(files or {})
        self._seccomp = seccomp
        self._delegate = delegate
        self._image = image
        self._before = before
        self._persistent = False
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._cgroup = ""
        network = f"/run/netns/{netns}" if netns and "/" not in netns else netns
        self._args = [f"--network-namespace-path={network}" if network else "--private-network"]
        self._args += [] if bare else _program()
        self._args += [f"--bind={bind}" for bind in binds]
        self._args += ["--capability=all"] if all_capabilities else []
        self._args += args

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- life ----------------------------------------------------------------------------------------

    def persist(self) -> Self:
        """Keep the node's disk over stop, kill and start. Call it before the first start; end with close()."""
        (self.base / "fs").mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "node", self.base / "fs"], check=True)
        self._persistent = True
        return self

    def start(self) -> Self:
        """Boot, and return when PID 1 says that the boot has finished."""
        for directory in ("fs", "run"):
            (self.base / directory).mkdir(parents=True, exist_ok=True)
        self._lay_out_files()
        unique = secrets.token_hex(6)
        self._cgroup = f"node-{self.name}-{unique}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(f"\0protokube-node-{unique}")
            notifications.settimeout(0.2)
            with (self.base / "console.log").open("ab") as console:
                self._supervisor = subprocess.Popen(
                    [*_PRIVATE_MOUNTS, _BOOT, "boot", str(self.base), *self._args],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env=self._environment(NOTIFY_SOCKET=f"@protokube-node-{unique}"),
                    start_new_session=True,
                )
            with ExitStack() as undo:
                undo.callback(self.kill)
                self._wait_for_boot(self._supervisor, notifications)
                undo.pop_all()
        if self._delegate:
            enter = ["nsenter", "-t", str(self._supervisor.pid), "-m", "sh", "-ec", _DELEGATE]
            subprocess.run(enter, env=self._environment(), check=True, timeout=RUN_LIMIT)
        return self

    def stop(self) -> None:
        """Power off in order (poweroff.target); units are stopped with their stop time-outs."""
        self._leave(signal.SIGRTMIN + 4)

    def kill(self) -> None:
        """Power cut: everything in the node is gone at once."""
        if self._supervisor is None:
            return
        os.kill(self.leader or self._supervisor.pid, signal.SIGKILL)
        self._supervisor.wait()
        self._ended()

    def reboot(self) -> Self:
        """Reboot in order. What isn't on a persistent disk (see persist) is gone."""
        self._leave(signal.SIGRTMIN + 5)
        return self.start()

    def close(self) -> None:
        """Cut the power if it is still on, and let go of the disk."""
        self.kill()
        if self._persistent:
            subprocess.run(["umount", "-R", self.base / "fs"], check=True)
            self._persistent = False
        shutil.rmtree(self.base / "files", ignore_errors=True)

    # --- looking and touching ------------------------------------------------------------------------

    def path(self, path: str) -> Path:
        """Where an absolute path of the node is found from outside."""
        return Path(f"/proc/{self.leader}/root{path}")

    @property
    def cgroup(self) -> str:
        """The name of the cgroup of all its processes; empty before the first start."""
        return self._cgroup

    @property
    def bus_address(self) -> str:
        """The address of the node's system bus, for a client outside."""
        return f"unix:path={self.path('/run/dbus/system_bus_socket')}"

    def command(self, *argv: str) -> list[str]:
        """The argument vector that runs `argv` inside the node's namespaces, for Popen."""
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", *argv]

    def run(
        self, *argv: str, check: bool = True, timeout: float = RUN_LIMIT, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the node and capture its output; with `check`, a failure tells what it said."""
        done = subprocess.run(
            self.command(*argv), input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {argv} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def journal(self, unit: str) -> str:
        """What a unit has logged, for messages of failing tests."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, check=False).stdout

    # --- inside --------------------------------------------------------------------------------------

    def _environment(self, **more: str) -> dict[str, str]:
        own = {"NODE_NAME": self.name, "NODE_CGROUP": self._cgroup, "NODE_IMAGE": str(self._image)}
        own["NODE_BEFORE"] = self._before
        seccomp = {} if self._seccomp else {"SYSTEMD_SECCOMP": "0"}
        return {**os.environ, **own, **seccomp, **more}

    def _lay_out_files(self) -> None:
        for path, text in self._files.items():
            file = self.base / "files" / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if text.startswith("#!") else 0o644)

    def _wait_for_boot(self, supervisor: subprocess.Popen[bytes], notifications: socket.socket) -> None:
        deadline = time.monotonic() + BOOT_LIMIT
        while True:
            try:
                lines = notifications.recv(65536).decode().splitlines()
            except TimeoutError:
                if supervisor.poll() is not None or time.monotonic() > deadline:
                    log = (self.base / "console.log").read_text(errors="replace")
                    raise RuntimeError(f"{self.name} didn't boot:\n{log}") from None
                continue
            for line in lines:
                key, _, value = line.partition("=")
                if key == "X_NSPAWN_LEADER_PID":
                    self.leader = int(value)
                if line == "READY=1":
                    return

    def _leave(self, request: signal.Signals | int) -> None:
        if self._supervisor is None:
            return
        os.kill(self.leader, request)
        try:
            self._supervisor.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} didn't stop within {STOP_LIMIT:.0f} s") from None
        self._ended()

    def _ended(self) -> None:
        self._supervisor = None
        self.leader = 0
        environment = self._environment()
        subprocess.run([*_PRIVATE_MOUNTS, _CLEAN_CGROUP], env=environment, check=True, timeout=RUN_LIMIT)
