"""The actions on a machine beyond its files: packages, modules, sysctls, name, swap, systemd's own state."""

from __future__ import annotations

from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.node.actions import FileAction, FileFacts, FileWriter, MakeLink, Unlink
from protokube.core.node.containerd import CONTAINERD_PACKAGES
from protokube.core.node.kernel import SYSCTLS, module_of
from protokube.core.node.machine import AFTER_INSTALLATION, MachineFacts, TreeFacts
from protokube.core.node.model import Absent, Link


class MachineWriter(Protocol):
    """Executes actions on a running machine."""

    def finish_packages(self) -> None:
        """Let dpkg finish what it was interrupted in."""

    def install_packages(self, names: tuple[str, ...]) -> None:
        """Install Debian packages, waiting for another program's dpkg."""

    def load_module(self, name: str) -> None:
        """Load a kernel module."""

    def set_sysctl(self, key: str, value: str) -> None:
        """Set a sysctl until the next boot."""

    def set_hostname(self, name: str) -> None:
        """Set the kernel's host name."""

    def turn_off_swap(self, devices: tuple[str, ...]) -> None:
        """Take swap out of use until the next boot."""


class ManagerReloader(Protocol):
    """Lets systemd read its unit files again."""

    def reload(self) -> None:
        """Do so."""


def package_name(listed: str) -> str:
    """The plain name of a package that is listed as name:architecture=version."""
    return listed.partition("=")[0].partition(":")[0]


class MachineAction(ActionValue, frozen=True):
    """The base of the actions on a running machine."""

    port: ClassVar[str] = "machine"
    facts: ClassVar[str] = "machine"
    changes: ClassVar[frozenset[Facet]] = frozenset()


class InstallPackages(MachineAction, frozen=True, tag="install-package"):
    """Install Debian packages, all at once: apt solves their dependencies together."""

    names: tuple[str, ...]
    finish: bool = False
    """Whether dpkg has to finish first what it was interrupted in."""

    @property
    def subject(self) -> str:
        """Packages have one lock, dpkg's."""
        return "packages"

    def describe(self) -> str:
        """One line for people."""
        parts = ["finish dpkg's interrupted work"] * self.finish
        parts += [f"install {', '.join(self.names)} (apt)"] * bool(self.names)
        return ", ".join(parts)

    def predict(self, facts: MachineFacts, now: float) -> MachineFacts:
        """They are installed, in a version that only the installation tells."""
        new = {package_name(name): AFTER_INSTALLATION for name in self.names}
        containerd = facts.containerd or (AFTER_INSTALLATION if set(CONTAINERD_PACKAGES) & set(new) else None)
        return replace(facts, packages={**facts.packages, **new}, containerd=containerd, interrupted=False)

    def execute(self, port: MachineWriter) -> None:
        """Install them."""
        if self.finish:
            port.finish_packages()
        if self.names:
            port.install_packages(self.names)


class LoadModule(MachineAction, frozen=True, tag="load-module"):
    """Load a kernel module."""

    name: str

    @property
    def subject(self) -> str:
        """The module."""
        return self.name

    def describe(self) -> str:
        """One line for people."""
        return f"load the kernel module {self.name}"

    def predict(self, facts: MachineFacts, now: float) -> MachineFacts:
        """It is loaded, and its sysctls are there, with values that only the kernel knows."""
        if facts.running is None:
            return facts
        new = {key: "known once its module is loaded" for key in SYSCTLS if module_of(key) == self.name}
        running = facts.running
        return facts.with_running(modules=running.modules | {self.name}, sysctls={**new, **running.sysctls})

    def execute(self, port: MachineWriter) -> None:
        """Load it."""
        port.load_module(self.name)


class SetSysctl(MachineAction, frozen=True, tag="set-sysctl"):
    """Set a sysctl until the next boot."""

    key: str
    value: str

    @property
    def subject(self) -> str:
        """The sysctl."""
        return self.key

    def describe(self) -> str:
        """One line for people."""
        return f"set {self.key} = {self.value}"

    def predict(self, facts: MachineFacts, now: float) -> MachineFacts:
        """It has the value."""
        known = facts.running.sysctls if facts.running else {}
        return facts.with_running(sysctls={**known, self.key: self.value})

    def execute(self, port: MachineWriter) -> None:
        """Set it."""
        port.set_sysctl(self.key, self.value)


class SetHostname(MachineAction, frozen=True, tag="set-hostname"):
    """Set the kernel's host name."""

    name: str

    @property
    def subject(self) -> str:
        """There is one host name."""
        return "hostname"

    def describe(self) -> str:
        """One line for people."""
        return f"name this machine {self.name}"

    def predict(self, facts: MachineFacts, now: float) -> MachineFacts:
        """It has the name."""
        return facts.with_running(hostname=self.name)

    def execute(self, port: MachineWriter) -> None:
        """Set it."""
        port.set_hostname(self.name)


class TurnOffSwap(MachineAction, frozen=True, tag="turn-off-swap"):
    """Take swap out of use until the next boot."""

    devices: tuple[str, ...]

    @property
    def subject(self) -> str:
        """All swap at once."""
        return "swap"

    def describe(self) -> str:
        """One line for people."""
        return f"turn swap off ({', '.join(self.devices)})"

    def predict(self, facts: MachineFacts, now: float) -> MachineFacts:
        """None is in use."""
        return facts.with_running(swap=())

    def execute(self, port: MachineWriter) -> None:
        """Turn it off."""
        port.turn_off_swap(self.devices)


class DaemonReload(ActionValue, frozen=True, tag="daemon-reload"):
    """Let systemd read its unit files again."""

    port: ClassVar[str] = "services"
    facts: ClassVar[str] = "node"
    changes: ClassVar[frozenset[Facet]] = frozenset()

    def describe(self) -> str:
        """One line for people."""
        return "let systemd read its unit files again"

    def predict(self, facts: TreeFacts, now: float) -> TreeFacts:
        """No unit is stale."""
        return replace(facts, stale=frozenset())

    def execute(self, port: ManagerReloader) -> None:
        """Do so."""
        port.reload()


class EnableUnit(FileAction, frozen=True, tag="enable-unit"):
    """Enable a unit by the link that `systemctl enable` makes; it holds in an image too."""

    unit: str = ""
    target: str = ""

    def describe(self) -> str:
        """One line for people."""
        return f"enable {self.unit}"

    def predict(self, facts: FileFacts, now: float) -> FileFacts:
        """The link is there."""
        return facts.with_file(self.path, Link(self.target, int(now * 1e9)))

    def execute(self, port: FileWriter) -> None:
        """Make the link."""
        port.link(MakeLink(self.path, target=self.target))


class DisableUnit(FileAction, frozen=True, tag="disable-unit"):
    """Remove a link that enables a unit."""

    unit: str = ""

    def describe(self) -> str:
        """One line for people."""
        return f"disable {self.unit} ({self.path})"

    def predict(self, facts: FileFacts, now: float) -> FileFacts:
        """The link is gone."""
        return facts.with_file(self.path, Absent())

    def execute(self, port: FileWriter) -> None:
        """Remove the link."""
        port.unlink(Unlink(self.path))
