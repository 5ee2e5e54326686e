"""Certificates by openssl: two authorities, and who has one of which."""

from __future__ import annotations

import subprocess
from pathlib import Path

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(folder: Path) -> Path:
    """`server` and `client` of authority `ca`, `other` of `stranger`, all for 127.0.0.1: NAME.crt and NAME.key."""
    for authority in ("ca", "stranger"):
        own = ("-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-subj", f"/CN={authority}", "-days", "2")
        _openssl(folder, "req", "-x509", *_EC, *own, "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, authority in (("server", "ca"), ("client", "ca"), ("other", "stranger")):
        _openssl(folder, "req", *_EC, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        issued = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2")
        _openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", *issued, "-extfile", f"{name}.ext", "-out", f"{name}.crt"
        )
    return folder


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
