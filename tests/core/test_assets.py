"""Assets: what may be configured, what each needs next, and which files of an archive go where."""

from __future__ import annotations

import pytest

from protokube.core.action import Action
from protokube.core.codec import decode, encode
from protokube.core.located import Located, parse
from protokube.core.model import Fault
from protokube.core.node.asset_actions import AssetFacts, FetchAsset, InstallAsset, next_action
from protokube.core.node.asset_settings import read_assets
from protokube.core.node.assets import Asset, AssetState, Extract, for_machine, match, shown

A, B = "a" * 64, "b" * 64
KUBELET = Asset(("https://dl.example/kubelet",), A, path="/usr/local/bin/kubelet")
CNI = Asset(("https://dl.example/cni.tgz?token=x",), A, extract=(Extract("*", "/opt/cni/bin/"),))


def read(text: str) -> tuple[tuple[Asset, ...], list[str]]:
    document, found = parse(text, "node.yaml")
    assert document is not None and isinstance(document.value, list)
    items: list[Located] = document.value
    faults: list[Fault] = list(found)
    return read_assets(items, faults), [str(fault) for fault in faults]


def test_the_forms_that_there_are() -> None:
    assets, faults = read(
        f"""
- {{path: /usr/local/bin/kubelet, sha256: {A.upper()}, urls: ['https://a/kubelet', 'file:///x/kubelet'], arch: amd64}}
- {{path: /usr/local/bin/kubelet, sha256: {B}, urls: ['https://a/kubelet'], arch: arm64}}
- {{archive: 'https://a/cni.tgz', sha256: {A}, extract: {{'*': /opt/cni/bin/}}, urls: ['https://b/cni.tgz']}}
- {{path: /bin/x, sha256: {A}, unpackedSha256: {B}, urls: ['https://a/x.xz']}}
"""
    )
    assert faults == []
    assert assets == (
        Asset(("https://a/kubelet", "file:///x/kubelet"), A, path="/usr/local/bin/kubelet", arch="amd64"),
        Asset(("https://a/kubelet",), B, path="/usr/local/bin/kubelet", arch="arm64"),
        Asset(("https://a/cni.tgz", "https://b/cni.tgz"), A, extract=(Extract("*", "/opt/cni/bin/"),)),
        Asset(("https://a/x.xz",), A, path="/bin/x", unpacked=B),
    )
    assert [asset.sha256 for asset in for_machine(assets, "arm64")] == [B, A, A]


GOOD = {"path": "/bin/x", "sha256": A, "urls": "['https://a/x']"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sha256": None}, "sha256: is required"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"sha265": A}, "did you mean 'sha256'?"),
        ({"urls": None}, "urls: is required"),
        ({"urls": "[]"}, "at least one URL"),
        ({"urls": "https://a/x"}, "a list was expected"),
        ({"urls": "['ftp://a/x']"}, "the scheme 'ftp' (expected https, http or file)"),
        ({"urls": "['/media/x']"}, "the scheme ''"),
        ({"urls": "['https://u:hunter2@a/x']"}, "the URL holds a user or password"),
        ({"urls": "['https://a/']"}, "the URL of a file"),
        ({"urls": "['https:///x']"}, "the URL of a file"),
        ({"urls": "['https://a:b/x']"}, "not a URL"),
        ({"urls": "['https://a..b/x']"}, "'a..b' where a host's name was expected"),
        ({"urls": f"['https://{'a' * 64}.b/x']"}, "1 to 63 characters"),
        ({"urls": "['file:///a%00b']"}, "%00, which no file's name has"),
        ({"urls": "['https://a/x y']"}, "write it as %20"),
        ({"urls": '["https://a/x\\r\\nEvil: 1"]'}, "write it as %20"),
        ({"urls": "['file://server/x']"}, "a path on this machine"),
        ({"path": "bin/x"}, "an absolute path"),
        ({"path": "/bin/../x"}, "an absolute path"),
        ({"path": "/bin/"}, "an absolute path"),
        ({"path": "//proc/x"}, "an absolute path"),
        ({"urls": "['https://a/x.zst']"}, "x.zst is packed in a way that is not unpacked here"),
        (
            {"path": None, "archive": "'https://a/containerd-2.1.4.tgz'", "extract": "{'bin/*': /opt/c/bin/}"},
            "containerd would be /opt/c/bin/containerd, where nobody looks (expected /usr/local/bin/ or /usr/bin/)",
        ),
        ({"path": "/run/x"}, "on a disk (not below /run and the like)"),
        ({"path": None, "archive": "'https://a/x.tgz'", "extract": "{'x': /dev/}"}, "on a disk"),
        ({"arch": "x86_64"}, "one of amd64, arm64"),
        ({"archive": "'https://a/x.tgz'"}, "either `path` (a file) or `archive`"),
        ({"path": None}, "either `path` (a file) or `archive`"),
        ({"extract": "{'*': /x/}"}, "needs `archive` in place of `path`"),
        ({"urls": "['https://a/x.tgz']"}, "x.tgz is compressed; give `unpackedSha256`"),
        ({"path": None, "archive": "'https://a/x.tgz'"}, "extract: is required"),
        ({"path": None, "archive": "'https://a/x.tgz'", "extract": "{'../x': /y/}"}, "a name inside the archive"),
        ({"path": None, "archive": "'https://a/x.tgz'", "extract": "{'x': y}"}, "an absolute path"),
        ({"path": None, "archive": "'https://a/x.tgz'", "extract": "{'x': /y/}", "unpackedSha256": B}, "single file"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, str | None], fault: str) -> None:
    keys = {key: value for key, value in (GOOD | change).items() if value is not None}
    assets, faults = read("- {" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}")
    assert assets == () and any(fault in one for one in faults), faults
    assert all(one.startswith("node.yaml:1") for one in faults) and "hunter2" not in "".join(faults)


@pytest.mark.parametrize(
    ("first", "second", "clash"), [("amd64", "arm64", False), ("amd64", None, True), (None, None, True)]
)
def test_one_path_has_one_asset(first: str | None, second: str | None, clash: bool) -> None:
    lines = [
        f"- {{path: /bin/x, sha256: {A}, urls: ['https://a/x']{f', arch: {arch}' if arch else ''}}}"
        for arch in (first, second)
    ]
    _, faults = read("\n".join(lines))
    assert [fault.partition(": ")[2] for fault in faults] == [
        "/bin/x is the path of the asset in line 1 as well"
    ] * clash


def test_one_url_has_one_archive() -> None:
    lines = [
        f"- {{archive: 'https://a/x?part={part}', sha256: {part * 64}, extract: {{'*': /opt/{part}/}}}}"
        for part in "ab"
    ]
    _, faults = read("\n".join(lines))
    assert len(faults) == 1 and "that of line 1 has the same" in faults[0]


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (AssetState(), FetchAsset(KUBELET)),
        (AssetState(cached=True), InstallAsset(KUBELET)),
        (AssetState(installed=True), None),
        (AssetState(installed=True, modes=False), InstallAsset(KUBELET, noting=True)),
        (AssetState(installed=True, noted=False), InstallAsset(KUBELET, noting=True)),
    ],
)
def test_what_comes_next(state: AssetState, action: Action | None) -> None:
    assert next_action(KUBELET, state) == action


def test_predictions_lead_to_the_end() -> None:
    facts, kinds = AssetFacts(), []
    while action := next_action(KUBELET, facts.state(KUBELET)):
        kinds.append(action.kind)
        facts = action.predict(facts, 0.0)
    assert kinds == ["fetch-asset", "install-asset"]


@pytest.mark.parametrize("action", [FetchAsset(KUBELET), InstallAsset(CNI, noting=True)])
def test_actions_are_values_in_json(action: Action) -> None:
    assert decode(encode(action), Action) == action  # type: ignore[type-abstract]


def test_actions_describe_themselves_without_secrets() -> None:
    assert FetchAsset(CNI).describe() == "fetch cni.tgz from https://dl.example/cni.tgz (sha256 aaaaaaaaaaaa…)"
    assert InstallAsset(CNI).describe() == "extract cni.tgz: * → /opt/cni/bin/"
    assert InstallAsset(KUBELET).describe() == "install /usr/local/bin/kubelet (kubelet, 0755)"
    assert InstallAsset(KUBELET, noting=True).describe().startswith("note the hash of /usr/local/bin/kubelet")
    assert CNI.subject == "https://dl.example/cni.tgz"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://a/b?X-Signature=s#t", "https://a/b"),
        ("https://user:pass@a:1/b@c", "https://a:1/b@c"),
        ("https://user@a?x@y", "https://a"),
        ("file:///a@b", "file:///a@b"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.parametrize(
    ("pattern", "target", "member", "path"),
    [
        ("*", "/opt/cni/bin/", "./bridge", "/opt/cni/bin/bridge"),
        ("./*", "/opt/cni/bin/", "bridge", "/opt/cni/bin/bridge"),
        ("*", "/opt/cni/bin/", "sub/bridge", None),
        ("bin/*", "/usr/local/bin/", "bin/ctr", "/usr/local/bin/ctr"),
        ("etcd-*/etcd", "/usr/local/bin/", "etcd-v3.6.8-linux-amd64/etcd", "/usr/local/bin/etcd"),
        ("etcd-*/etcd", "/usr/local/bin/", "etcd-v3.6.8-linux-amd64/etcdctl", None),
        ("crictl", "/usr/local/bin/crictl-1.36", "crictl", "/usr/local/bin/crictl-1.36"),
    ],
)
def test_a_pattern_says_where_a_file_goes(pattern: str, target: str, member: str, path: str | None) -> None:
    rule = Extract(pattern, target)
    assert match(Asset((), A, extract=(rule,)), member) == ((rule, path) if path else None)
