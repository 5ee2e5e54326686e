"""The list to mirror by, and what people see while files are fetched."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

from nodeup.assets.listing import as_json, as_text, listing, size_asker
from nodeup.assets.progress import Bars, Chosen, Lines
from protokube.core.node.assets import Asset, Extract
from tests.lab.asset_files import SHORT, no_trust
from tests.lab.lying_server import LyingServer

A, B = "a" * 64, "b" * 64


def test_the_list_has_urls_hashes_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "kubelet").write_bytes(bytes(3 << 20))
    with LyingServer(bytes(100)) as server:
        assets = [
            Asset((server.url("500"), f"file://{tmp_path}/kubelet"), A, path="/bin/kubelet", arch="amd64"),
            Asset((server.url("redirect", "cni.tgz"),), B, extract=(Extract("*", "/opt/cni/bin/"),)),
            Asset((server.url("404", "tool.xz"),), A, path="/bin/tool", unpacked=B),
        ]
        listed = listing(assets, size_asker(SHORT, no_trust))
        assert not any(headers.get("Range") for _, headers in server.requests)
    assert json.loads(as_json(listed)) == {
        "version": 1,
        "assets": [
            {
                "name": "kubelet",
                "arch": "amd64",
                "sha256": A,
                "unpackedSha256": None,
                "size": 3 << 20,
                "urls": list(assets[0].urls),
                "to": ["/bin/kubelet"],
            },
            {
                "name": "cni.tgz",
                "arch": None,
                "sha256": B,
                "unpackedSha256": None,
                "size": 100,
                "urls": list(assets[1].urls),
                "to": ["/opt/cni/bin/"],
            },
            {
                "name": "tool",
                "arch": None,
                "sha256": A,
                "unpackedSha256": B,
                "size": None,
                "urls": list(assets[2].urls),
                "to": ["/bin/tool"],
            },
        ],
    }
    lines = as_text(listed).splitlines()
    assert lines[0] == f"{A}  kubelet  (amd64, 3.0 MiB)"
    assert lines[1:3] == [f"    from {url}" for url in assets[0].urls]
    assert lines[-1] == "3.0 MiB in all, without 1 of unknown size"
    assert "no assets" in as_text(listing([], size_asker(SHORT, no_trust)))


def test_lines_for_a_journal() -> None:
    out = io.StringIO()
    chosen = Chosen(out)
    with chosen.download("kubelet", "https://a/kubelet?signature=x", 1 << 20, 2 << 20) as got:
        got(1 << 20)
    chosen.failed("kubelet", "https://a/kubelet?signature=x", "it answers 500")
    chosen.fetched("kubelet", 2 << 20)
    assert out.getvalue().splitlines() == [
        "fetching kubelet (2.0 MiB) from https://a/kubelet, resumed at 1.0 MiB",
        "kubelet: https://a/kubelet: it answers 500",
        "fetched kubelet (2.0 MiB)",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal() -> None:
    out = Terminal()
    chosen = Chosen(out)
    with chosen.download("kubelet", "https://a/kubelet", 0, 2 << 20) as got:
        got(1 << 20)
    chosen.failed("kubelet", "https://a/[kubelet]", "cut")
    with chosen.download("kubelet", "https://a/kubelet", 1 << 20, 2 << 20) as got:
        got(1 << 20)
    chosen.fetched("kubelet", 2 << 20)
    shown = out.getvalue()
    assert "kubelet: https://a/[kubelet]: cut" in shown and "2.0/2.0 MiB" in shown
    assert isinstance(chosen._progress, Bars)


def test_a_run_that_needs_no_asset_imports_nothing_for_them(tmp_path: Path) -> None:
    """HTTP, TLS and tar take 100 ms, rich 40."""
    code = (
        "import sys; from nodeup.assets.port import AssetFiles; "
        f"AssetFiles({str(tmp_path)!r}).states([]); "
        "print(sorted({'rich', 'ssl', 'http.client', 'tarfile', 'lzma'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"


def test_lines_are_chosen_without_a_terminal() -> None:
    chosen = Chosen(io.StringIO())
    chosen.fetched("kubelet", 1)
    assert isinstance(chosen._progress, Lines)
