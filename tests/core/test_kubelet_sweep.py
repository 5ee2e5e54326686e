"""Every flag and every field of both kubelets: a legal value renders, and that kubelet takes it; the nearest illegal
one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protokube.core.component.flags import Quantity
from protokube.core.component.model import Layer
from protokube.core.component.schema import Field, flags_of_help, spell
from protokube.core.kubelet.paths import CONFIG_PATH
from protokube.core.kubelet.render import KubeletFiles, KubeletInput, render
from protokube.core.kubelet.schema import kubelet_schema
from protokube.core.model import Fault
from tests.lab.kubelet_edges import EDGES
from tests.lab.kubelet_standin import (
    VERSIONS,
    RefusedError,
    check,
    flag_value,
    help_text,
    parse_argv,
    parse_config,
    rows,
)

# A busy machine is no fault.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

LEGAL: dict[str, object] = {
    "bool": True,
    "float": 0.25,
    "string": "some text",
    "size": "10Mi",
    "ip": "10.0.0.1",
    "ips": ["10.0.0.10", "fd00::a"],
    "duration": "1m30s",
    "quantity": "4Ki",
    "strings": ["one", "two"],
    "int32s": [29, 23],
    "int32": 7,
    "int64": 8,
    "uint32": 9,
    "uint64": 10,
    "map": {"b": "2", "a": "1"},
    "labels": {"example.com/rack": "r1", "a": ""},
    "quantities": {"memory": "1Gi", "cpu": "100m"},
    "percents": {"memory": "50%"},
    "thresholds": {"nodefs.available": "10%", "memory.available": "100Mi"},
    "periods": {"memory.available": "1m30s"},
    "reclaims": {"nodefs.available": "500Mi", "imagefs.available": "2%"},
    "gates": {"B": False, "A": True},
    "headers": {"x": ["1", "2"]},
    "taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}],
    "objects": [{"priority": 100, "shutdownGracePeriodSeconds": 10}],
}
ZEROS: dict[str, object] = {
    "bool": False,
    "duration": "0s",
    "float": 0.0,
    **dict.fromkeys(("int32", "int64", "uint32", "uint64"), 0),
}

# Many gates, and UnlimitedSwap (1.22 to 1.29), were there between the two versions alone.
CAME_AND_WENT = ("featureGates", "memorySwap.swapBehavior")
# What only the previous minor version may be is another value for each version.
ONE_VERSION_ONLY = [("showHiddenMetricsForVersion", minor) for minor in ("1.18", "1.19", "1.20", "1.35", "1.36")]

BARE = KubeletInput(None, (), {}, "node-a", kubeconfig_present=True)
CONFIGURABLE = [field for field in kubelet_schema().fields.values() if "[]" not in field.name and not field.owned]
PAIRS = [pytest.param(version, field, id=f"{version}-{field.name}") for version in VERSIONS for field in CONFIGURABLE]


def legal(field: Field, version: str) -> Any:
    """A value that kubelet takes, of the one form of its kind; the edges say which, or the kind."""
    edge = EDGES.get(field.name)
    if edge is None or field.kind in ("taints", "thresholds", "reclaims", "periods"):
        return field.kind.split("|")[-1] if "|" in field.kind else LEGAL[field.kind]
    return [*(edge.old if version == VERSIONS[0] else edge.new), *edge.both][-1]


def configured(name: str, value: object) -> Layer:
    """A layer that sets one field, written as the structs that its name goes through."""
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return Layer("kubelet", value)


def alone(name: str, value: object) -> tuple[Layer, ...]:
    """The layers that set one field, with the gate that it may need."""
    gated = any("gate=" in rule for rule in kubelet_schema().fields[name].rules)
    layers = (configured(name, value),)
    return (Layer("kubelet", {"featureGates": {"AllAlpha": True}}), *layers) if gated else layers


def accepted(files: KubeletFiles, version: str, root: Path) -> dict[str, Any]:
    """The configuration file's content, after the stand-in took flags and file."""
    for path, text in ((CONFIG_PATH, files.config_file), ("/var/lib/kubelet/kubeconfig", "")):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(text, encoding="utf-8")
    return check(files.flags, version, root)


def rendered(given: KubeletInput) -> KubeletFiles:
    files = render(given)
    assert isinstance(files, KubeletFiles), files
    return files


def at(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


def plain(field: Field, value: object) -> object:
    """The value as the stand-in reads it: a duration in seconds."""
    return flag_value("duration", str(value)) if field.kind == "duration" else value


def edges(version: str, *, taken: bool) -> list[Any]:
    """The values at the edges that a version takes, or those that it refuses, where it knows their field at all."""
    known = {row.name for row in rows(version)}
    found = []
    for name, edge in EDGES.items():
        own, other = (edge.old, edge.new) if version == VERSIONS[0] else (edge.new, edge.old)
        values = (*edge.both, *own) if taken else (*edge.neither, *other)
        if name in known:
            found += [pytest.param(version, name, value, id=f"{version}-{name}-{value}") for value in values]
    return found


def verdict(version: str, name: str, value: object) -> KubeletFiles | tuple[Fault, ...]:
    return render(replace(BARE, version=version, layers=alone(name, value)))


@pytest.mark.parametrize(("version", "name", "value"), [each for v in VERSIONS for each in edges(v, taken=True)])
def test_what_kubelet_just_takes_is_rendered(version: str, name: str, value: object, tmp_path: Path) -> None:
    files = verdict(version, name, value)
    assert isinstance(files, KubeletFiles), files
    accepted(files, version, tmp_path)


@pytest.mark.parametrize(("version", "name", "value"), [each for v in VERSIONS for each in edges(v, taken=False)])
def test_what_kubelet_just_refuses_is_refused_first(version: str, name: str, value: object) -> None:
    faults = verdict(version, name, value)
    assert isinstance(faults, tuple)
    assert all(fault.place.startswith(f"kubelet.{name}") for fault in faults)
    assert any(" is wrong; " in fault.message for fault in faults)


@pytest.mark.parametrize(
    ("version", "name", "value", "gate", "plain"),
    [
        ("1.20.2", "cpuCFSQuotaPeriod", "50ms", "CustomCPUCFSQuotaPeriod", "100ms"),
        ("1.20.2", "shutdownGracePeriod", "30s", "GracefulNodeShutdown", "0s"),
        ("1.36.2", "memoryReservationPolicy", "TieredReservation", "MemoryQoS", "None"),
        ("1.36.2", "logging.options.json.splitStream", True, "LoggingAlphaOptions", False),
    ],
)
def test_a_value_that_needs_a_gate_is_refused_without_it(
    version: str, name: str, value: object, gate: str, plain: object
) -> None:
    def outcome(value: object, gates: dict[str, bool], version: str = version) -> KubeletFiles | tuple[Fault, ...]:
        return render(
            replace(
                BARE, version=version, layers=(configured(name, value), Layer("kubelet", {"featureGates": gates}))
            )
        )

    off: list[dict[str, bool]] = [{}, {gate: False}, {gate: False, "AllAlpha": True}]
    for gates in off:
        faults = outcome(value, gates)
        assert isinstance(faults, tuple)
        [fault] = faults
        assert fault.place == f"kubelet.{name}"
        assert f"needs the feature gate {gate}, which is off" in fault.message
        assert isinstance(outcome(plain, gates), KubeletFiles)
    for gates in ({gate: True}, {"AllAlpha": True}):
        assert isinstance(outcome(value, gates), KubeletFiles)
    assert isinstance(outcome(value, {}, "1.28.4"), KubeletFiles)  # who can tell when the gate became the default


def test_every_rule_of_the_table_has_its_edges() -> None:
    def has_edges(field: Field) -> bool:
        return "|" in field.kind or any("gate=" not in rule for rule in field.rules)

    ruled = {field.name.split("[]")[0] for field in kubelet_schema().fields.values() if has_edges(field)}
    assert ruled == EDGES.keys()


def test_what_came_and_went_between_the_known_versions_is_taken_there() -> None:
    layers = (Layer("kubelet", {"memorySwap": {"swapBehavior": "UnlimitedSwap"}, "featureGates": {"NewGate": True}}),)
    assert isinstance(render(replace(BARE, version="1.28.4", layers=layers)), KubeletFiles)
    assert isinstance(render(replace(BARE, version="1.36.2", layers=layers)), tuple)


def test_between_the_known_versions_counts_what_either_takes() -> None:
    for name, edge in EDGES.items():
        for value in (*edge.both, *edge.old, *edge.new):
            if (name, value) not in ONE_VERSION_ONLY:
                assert isinstance(verdict("1.28.4", name, value), KubeletFiles), (name, value)
        for value in edge.neither if name not in CAME_AND_WENT else ():
            if (name, value) not in ONE_VERSION_ONLY:
                assert isinstance(verdict("1.28.4", name, value), tuple), (name, value)


@pytest.mark.parametrize(("version", "field"), PAIRS)
def test_a_legal_value_renders_where_the_version_knows_the_field_and_is_refused_where_not(
    version: str, field: Field, tmp_path: Path
) -> None:
    value = legal(field, version)
    given = replace(BARE, version=version, layers=alone(field.name, value))
    known = {row.name: row for row in rows(version)}
    if field.name not in known:
        faults = render(given)
        assert isinstance(faults, tuple)
        [fault] = faults
        assert fault.place == f"kubelet.{field.name}"
        assert fault.message.startswith(f"kubelet {version} doesn't know it ")
        return
    files = rendered(given)
    tree = accepted(files, version, tmp_path)
    flags = parse_argv(files.flags, version)
    if known[field.name].letter in "bcl":
        assert field.flag not in flags
        found = at(tree, field.name)
        assert (flag_value("duration", found) if field.kind == "duration" else found) == plain(field, value)
    else:
        assert flags[str(field.flag)] == plain(field, value)
    assert (f"--{field.flag} is deprecated" in str(files.notes)) == (known[field.name].letter == "d")


@pytest.mark.parametrize("version", VERSIONS)
def test_all_of_a_versions_fields_at_once(version: str, tmp_path: Path) -> None:
    known = {row.name for row in rows(version)}
    fields = [field for field in CONFIGURABLE if field.name in known]
    layers = tuple(layer for field in fields for layer in alone(field.name, legal(field, version)))
    help_flags = flags_of_help(help_text(version))
    files = rendered(replace(BARE, version=version, layers=layers, known_flags=help_flags))
    accepted(files, version, tmp_path)
    in_file = {row.flag for row in rows(version) if row.letter in "bcl"}
    told = {flag[2:].partition("=")[0] for flag in files.flags}
    assert told.isdisjoint(in_file)
    assert told | in_file >= help_flags - {"help", "version"}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_daemon_owns_is_refused_and_set(version: str, tmp_path: Path) -> None:
    for field in kubelet_schema().fields.values():
        if field.owned:
            faults = render(replace(BARE, version=version, layers=(configured(field.name, "x"),)))
            assert faults == (Fault(f"kubelet.{field.name}", f"can't be configured here: {field.hint}"),)
    files = rendered(replace(BARE, version=version, manifest_dir="/etc/manifests"))
    assert files.flags == (
        "--config=/var/lib/kubelet/config.yaml",
        "--hostname-override=node-a",
        "--kubeconfig=/var/lib/kubelet/kubeconfig",
    )
    assert accepted(files, version, tmp_path) == {"staticPodPath": "/etc/manifests"}


@pytest.mark.parametrize(
    ("version", "field"),
    [
        pytest.param(version, field, id=f"{version}-{field.name}")
        for version in VERSIONS
        for field in CONFIGURABLE
        if field.kind in ZEROS and field.name in {row.name for row in rows(version)}
    ],
)
def test_zero_is_said_where_kubelet_reads_it_as_zero(version: str, field: Field, tmp_path: Path) -> None:
    zero = ZEROS[field.kind]
    known = {row.name: row for row in rows(version)}
    outcome = render(replace(BARE, version=version, layers=alone(field.name, zero)))
    if zero in [each.values[2] for each in edges(version, taken=False) if each.values[1] == field.name]:
        assert isinstance(outcome, tuple)
        return
    if isinstance(outcome, tuple):
        assert (known[field.name].letter, "zero" in field.marks) == ("c", True)
        return
    tree = accepted(outcome, version, tmp_path)
    flags = parse_argv(outcome.flags, version)
    if field.name == "logLevel":
        assert "v" not in flags
    elif field.flag in flags:
        assert flags[field.flag] == (0.0 if field.kind == "duration" else zero)
    else:
        assert at(tree, field.name) == zero
        assert "zero" not in field.marks


@pytest.mark.parametrize(
    ("name", "zero", "by_flag"),
    [
        ("maxPods", 0, "--max-pods=0"),
        ("registryBurst", 0, "--registry-burst=0"),
        ("streamingConnectionIdleTimeout", "0s", "--streaming-connection-idle-timeout=0s"),
        ("volumeStatsAggPeriod", "0s", "--volume-stats-agg-period=0s"),
        ("evictionPressureTransitionPeriod", "0s", "--eviction-pressure-transition-period=0s"),
        ("readOnlyPort", 0, None),
        ("podsPerCore", 0, None),
        ("registryPullQPS", 0, None),
        ("podPidsLimit", 0, None),
        ("shutdownGracePeriod", "0s", None),
        ("eventRecordQPS", 0, None),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_zero_that_the_file_would_turn_into_a_default_is_a_flag(
    version: str, name: str, zero: object, by_flag: str | None
) -> None:
    """After kubelet's SetDefaults_KubeletConfiguration: a plain 0 there means "default", a pointer to 0 doesn't."""
    files = rendered(replace(BARE, version=version, layers=(Layer("kubelet", {name: zero}),)))
    assert (by_flag in files.flags) == (by_flag is not None)
    assert (parse_config(files.config_file, version).get(name) == zero) == (by_flag is None)


@pytest.mark.parametrize(("version", "by_flag"), [("1.20.2", True), ("1.36.2", False)])
def test_empty_resolv_conf_reaches_every_kubelet(version: str, by_flag: bool, tmp_path: Path) -> None:
    files = rendered(replace(BARE, version=version, layers=(Layer("kubelet", {"resolvConf": ""}),)))
    tree = accepted(files, version, tmp_path)
    assert ("--resolv-conf=" in files.flags) == by_flag
    assert tree.get("resolvConf") == (None if by_flag else "")


@pytest.mark.parametrize(
    ("kind", "empty", "written"),
    [("string", "", {"resolvConf": ""}), ("strings", [], {"enforceNodeAllocatable": []}), ("map", {}, {})],
)
def test_empty_is_left_out_unless_it_has_a_meaning(
    kind: str, empty: object, written: dict[str, object], tmp_path: Path
) -> None:
    names = [field.name for field in CONFIGURABLE if field.kind == kind and field.places[1] != "."]
    files = rendered(replace(BARE, layers=tuple(configured(name, empty) for name in names)))
    assert accepted(files, VERSIONS[1], tmp_path) == {"staticPodPath": "/etc/kubernetes/manifests", **written}
    assert files.flags == rendered(BARE).flags


# --- what was written reads back -------------------------------------------------------------------------

TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Cn"], blacklist_characters="\ufeff"))
WORDS = TEXT.filter(lambda text: bool(text) and text == text.strip() and not set(text) & set(",=<:"))
LABELS = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
NOT_TEXT_IN_YAML = ["y", "no", "1e3", "0x1f", "null", "~", "1_000", "12:30", "- a", "a: b", "#x", "2026-01-01"]
TREES = st.fixed_dictionaries(
    {},
    optional={
        "clusterDomain": TEXT.filter(bool),
        "podCIDR": st.sampled_from(NOT_TEXT_IN_YAML),
        "preloadedImagesVerificationAllowlist": st.lists(st.sampled_from(["a/b:c", "a/*"]), min_size=1),
        "topologyManagerPolicyOptions": st.fixed_dictionaries({"prefer-closest-numa-nodes": TEXT}),
        "featureGates": st.dictionaries(st.sampled_from(["AllAlpha", "AllBeta"]), st.booleans(), min_size=1),
        "memoryThrottlingFactor": st.floats(0, 1, exclude_min=True),
        "podPidsLimit": st.integers(-(2**63), 2**63 - 1),
        "failSwapOn": st.booleans(),
        "staticPodURLHeader": st.dictionaries(WORDS, st.lists(TEXT, min_size=1), min_size=1),
        "registerWithTaints": st.lists(
            st.fixed_dictionaries({"key": LABELS, "value": st.just("") | LABELS, "effect": st.just("NoExecute")}),
            min_size=1,
        ),
        "authentication": st.fixed_dictionaries({"x509": st.fixed_dictionaries({"clientCAFile": TEXT.filter(bool)})}),
    },
)  # fmt: skip


@CALM
@given(TREES)
def test_the_file_reads_back_as_what_was_configured(tree: dict[str, Any]) -> None:
    files = rendered(replace(BARE, layers=(Layer("kubelet", tree),)))
    read = parse_config(files.config_file, VERSIONS[1])
    assert read == {**tree, "staticPodPath": "/etc/kubernetes/manifests"}
    backwards = Layer("kubelet", dict(reversed(tree.items())))
    assert rendered(replace(BARE, layers=(backwards,))) == files


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["", "5s", "1Gi", "10%", "a=b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("cpu"), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([field.name for field in CONFIGURABLE])


@settings(CALM, max_examples=200)
@given(version=st.sampled_from(VERSIONS), values=st.dictionaries(NAMES, JUNK, max_size=4))
def test_whatever_is_written_is_refused_or_taken_by_kubelet(
    version: str, values: dict[str, object], tmp_path: Path
) -> None:
    layers = tuple(configured(name, value) for name, value in values.items())
    outcome = render(replace(BARE, version=version, layers=layers))
    if isinstance(outcome, KubeletFiles):
        accepted(outcome, version, tmp_path)
    else:
        assert outcome
    between = render(replace(BARE, version="1.28.0", layers=layers, known_flags=flags_of_help(help_text("1.20.2"))))
    assert isinstance(between, KubeletFiles | tuple)


@CALM
@given(st.integers(0, 2**40))
def test_a_quantity_flag_is_a_decimal_of_the_same_size(size: int) -> None:
    assert Quantity(f"{size}Ki").decimal() == str(size * 1024)


# --- the stand-in itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--max-podz=5"], "unknown flag: --max-podz"),
        (["--network-plugin=cni"], "unknown flag: --network-plugin"),
        (["max"], 'unknown command "max"'),
        (["--max-pods=x"], "invalid argument"),
        (["--node-labels=a"], "malformed pair"),
        (["--sync-frequency=5"], "invalid duration"),
        (["--node-ip"], "flag needs an argument"),
        (["--register-with-taints=a=b"], "invalid taint spec"),
        (["--node-labels=node-role.kubernetes.io/master="], "labels specified with --node-labels"),
        (["--kubeconfig=/nowhere/kubeconfig"], "no such file"),
        (["--config=/nowhere/config"], "no such file"),
    ],
)
def test_the_stand_in_refuses_bad_flags(argv: list[str], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        check(argv)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("maxPodz: 5", 'unknown field "maxPodz"'),
        ("maxPods: '5'", "cannot unmarshal"),
        ("maxPods: 5\nmaxPods: 6", "given twice"),
        ("authentication: {webhook: {enable: true}}", 'unknown field "authentication.webhook.enable"'),
        ("syncFrequency: 5", "cannot unmarshal"),
        ("syncFrequency: 5 minutes", "invalid duration"),
        ("cgroupDriver: none", "must be one of"),
        ("authorization: {mode: AlwaysAllow}", "cannot use webhook authentication"),
        ("authentication: {webhook: {enabled: false}}", "cannot use webhook authorization"),
    ],
)
def test_the_stand_in_refuses_a_bad_file(body: str, reason: str, tmp_path: Path) -> None:
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    (tmp_path / "config.yaml").write_text(head + body)
    with pytest.raises(RefusedError, match=reason):
        check(["--config=/config.yaml"], root=tmp_path)


def test_the_stand_ins_help_lists_its_flags() -> None:
    for version in VERSIONS:
        listed = flags_of_help(help_text(version))
        assert listed == {row.flag for row in rows(version) if row.letter in "bfdl"} - {"-"}


def test_both_versions_are_the_ones_the_core_knows() -> None:
    from protokube.core.component.schema import NEWEST, OLDEST

    assert (spell(OLDEST), spell(NEWEST)) == VERSIONS
