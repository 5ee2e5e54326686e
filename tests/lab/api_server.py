"""A real API server with an etcd of its own, and a controller manager where a test asks for one, without any kubelet.

    with Network() as network, ApiServer(tmp_path, network.node("10.77.0.11/24")) as server:
        with server.inside():
            server.admin().list("/api/v1/nodes")

Needs root and build/kubernetes. It runs in the network namespace of `space`, at port 6443 of every address there.
"""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from protokube.core.pki.document import StoredAuthority
from protokube.core.pki.model import CertificateWanted
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import Credentials, KubeHttp
from protokube.pki.x509 import issue, make_authority, make_service_account_key
from tests.lab.kubernetes import program
from tests.lab.netns import Namespace
from tests.lab.trial import until

URL = "https://127.0.0.1:6443"
LIMIT = 240.0
"""Seconds that only a hang exceeds: an API server takes 30 s on a machine at load 25."""

_SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


class ApiServer:
    """The processes, and the certificates below `base`."""

    def __init__(self, base: Path, space: Namespace, address: str = "10.77.0.11", *, own_etcd: bool = True) -> None:
        self.base, self._space, self.address, self._own_etcd = base, space, address, own_etcd
        base.mkdir(parents=True, exist_ok=True)
        self.authority = StoredAuthority(make_authority("kubernetes", time.time()))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.write_pki()
        if self._own_etcd:
            urls = "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"
            self._start("etcd", "/usr/bin/etcd", f"--data-dir={self.base}/etcd", *urls)
        try:
            self._start("kube-apiserver", str(program("kube-apiserver")), *self._api_flags())
            self.until("the API server is ready", lambda: self.admin().not_ready() is None)
        except BaseException:  # no process outlives a start that failed; raised again
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()

    def start_controller_manager(self, *more: str) -> None:
        """Start the controllers: they sign certificates, approve kubelets' own, and make service accounts."""
        flags = [
            f"--kubeconfig={self.kubeconfig('controller-manager')}",
            f"--cluster-signing-cert-file={self.base}/ca.crt",
            f"--cluster-signing-key-file={self.base}/ca.key",
            f"--service-account-private-key-file={self.base}/sa.key",
            f"--root-ca-file={self.base}/ca.crt",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--port=0",
            *more,
        ]
        self._start("kube-controller-manager", str(program("kube-controller-manager")), *flags)

    def start_scheduler(self) -> None:
        """Start the scheduler."""
        flags = [f"--kubeconfig={self.kubeconfig('scheduler')}", "--leader-elect=false", "--port=0"]
        self._start("kube-scheduler", str(program("kube-scheduler")), *flags)

    def kubectl(self, *argv: str, check: bool = True) -> str:
        """What kubectl prints, as an administrator."""
        command = [str(program("kubectl")), f"--kubeconfig={self.kubeconfig('admin')}", *argv]
        done = self._space.run(*command, check=check)
        return done.stdout + ("" if check else done.stderr)

    def pause(self, name: str, *, paused: bool = True) -> None:
        """Have a process stand still, or go on."""
        self._processes[name].send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def inside(self) -> AbstractContextManager[None]:
        """Let this thread's new sockets be in the server's namespace."""
        return self._space.inside()

    def admin(self) -> KubeApi:
        """A client that may do all."""
        return self.client(Credentials(self.base / "ca.crt", certificate=self.base / "admin"))

    def client(self, credentials: Credentials) -> KubeApi:
        """A client that shows these."""
        return KubeApi(KubeHttp(URL, credentials))

    def with_token(self, token: str) -> KubeApi:
        """A client with a bearer token."""
        return self.client(Credentials(self.base / "ca.crt", token=token))

    def with_certificate(self, name: str, common_name: str, *organizations: str) -> KubeApi:
        """A client with a certificate of the cluster's authority."""
        self.certificate(CertificateWanted(name, "kubernetes", common_name, organizations, client=True))
        return self.client(Credentials(self.base / "ca.crt", certificate=self.base / name))

    def until(self, what: str, holds: object) -> None:
        """Wait for a condition; a process that has ended tells its last words."""

        def checked() -> object:
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} has ended:\n{self.log(name)[-3000:]}"
            with self.inside():
                return holds()  # type: ignore[operator]

        until(what, checked, LIMIT)

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self.base / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, *argv: str) -> None:
        with (self.base / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                self._space.command(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.base
            )

    def _api_flags(self) -> list[str]:
        pki = self.base
        return [
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={self.address}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver/tls.crt",
            f"--tls-private-key-file={pki}/apiserver/tls.key",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth",
            "--allow-privileged",
            f"--kubelet-client-certificate={pki}/admin/tls.crt",
            f"--kubelet-client-key={pki}/admin/tls.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--insecure-port=0",
        ]

    def write_pki(self) -> None:
        """Write the cluster's authority and certificates, once."""
        if (self.base / "ca.crt").exists():
            return
        (self.base / "ca.crt").write_text(self.authority.active.certificate)
        (self.base / "ca.key").write_text(self.authority.active.key)
        key = make_service_account_key()
        (self.base / "sa.key").write_text(key.private)
        (self.base / "sa.pub").write_text(key.public)
        addresses = ("127.0.0.1", self.address, "10.96.0.1")
        names = (*_SERVICE_NAMES, "localhost")
        self.certificate(CertificateWanted("apiserver", "kubernetes", "kube-apiserver", (), names, addresses, True))
        self.certificate(CertificateWanted("admin", "kubernetes", "admin", ("system:masters",), client=True))
        manager = "system:kube-controller-manager"
        self.certificate(CertificateWanted("controller-manager", "kubernetes", manager, client=True))
        scheduler = "system:kube-scheduler"
        self.certificate(CertificateWanted("scheduler", "kubernetes", scheduler, client=True))

    def certificate(self, wanted: CertificateWanted) -> None:
        """Issue a certificate of the cluster's authority, into a folder of its name."""
        _, files = issue(wanted, self.authority, time.time())
        folder = self.base / wanted.name
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    def kubeconfig(self, name: str) -> Path:
        """A kubeconfig that names that certificate's files."""
        from protokube.core.kubelet.identity import kubeconfig

        path = self.base / f"{name}.kubeconfig"
        path.write_text(kubeconfig(URL, str(self.base / name)))
        return path
