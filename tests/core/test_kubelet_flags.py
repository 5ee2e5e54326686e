"""The writer of flags, and Go's and Kubernetes's spellings of durations and quantities."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protokube.core.component.flags import Duration, Quantity, flag_args, spell_value

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault

VECTORS = [
    ("attach-detach-reconcile-sync-period", Duration.parse("1m"), {}, ["=1m0s"]),
    ("terminated-pod-gc-threshold", 1500, {}, ["=1500"]),
    ("eviction-pressure-transition-period", Duration.parse("5s"), {}, ["=5s"]),
    ("eviction-pressure-transition-period", Duration.parse("0s"), {}, ["=0s"]),
    ("v", 0, {"unset": "0"}, []),
    ("v", 2, {"unset": "0"}, ["=2"]),
    ("eviction-hard", {"memory.available": "100Mi"}, {"joint": "<"}, ["=memory.available<100Mi"]),
    ("eviction-hard", "memory.available<100Mi", {}, ["=memory.available<100Mi"]),
    ("resolv-conf", "test", {"empty": True}, ["=test"]),
    ("resolv-conf", "", {"empty": True}, ["="]),
    ("resolv-conf", None, {"empty": True}, []),
    ("audit-webhook-batch-throttle-qps", Quantity("3.14"), {}, ["=3.14"]),
    ("audit-webhook-batch-throttle-qps", Quantity("3140m"), {}, ["=3.14"]),
    ("ttl", Duration.parse("100s"), {}, ["=1m40s"]),
    ("sync", Duration.parse("3h"), {}, ["=3h0m0s"]),
    ("absent", None, {}, []),
    ("empty-text", "", {}, []),
    ("empty-list", [], {}, []),
    ("empty-map", {}, {}, []),
    ("off", False, {}, ["=false"]),
    ("on", True, {}, ["=true"]),
    ("zero", 0, {}, ["=0"]),
    ("no-chance", 0.0, {}, ["=0"]),
    ("chance", 0.25, {}, ["=0.25"]),
    ("labels", {"b": "2", "a": "1", "c": ""}, {}, ["=a=1,b=2,c="]),
    ("feature-gates", {"B": False, "A": True}, {}, ["=A=true,B=false"]),
    ("cluster-dns", ["10.0.0.10", "10.0.0.11"], {}, ["=10.0.0.10,10.0.0.11"]),
    ("oidc-required-claim", ["a=b", "c=d"], {"repeat": True}, ["=a=b", "=c=d"]),
    ("oidc-required-claim", [], {"repeat": True}, []),
]


@pytest.mark.parametrize(("name", "value", "how", "expected"), VECTORS)
def test_known_vectors(name: str, value: object, how: dict[str, object], expected: list[str]) -> None:
    assert flag_args(name, value, **how) == tuple(f"--{name}{rest}" for rest in expected)  # type: ignore[arg-type]


def test_what_no_flag_can_hold_is_a_bug_of_the_caller() -> None:
    with pytest.raises(TypeError, match="can't be a flag's value"):
        flag_args("x", object())


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("0", "0s"),
        ("1ns", "1ns"),
        ("1100ns", "1.1µs"),
        ("2us", "2µs"),
        ("2\u03bcs", "2µs"),
        ("100ms", "100ms"),
        ("1.5ms", "1.5ms"),
        ("999999us", "999.999ms"),
        (".5s", "500ms"),
        ("1.s", "1s"),
        ("90s", "1m30s"),
        ("1h1ns", "1h0m0.000000001s"),
        ("1h30m10.5s", "1h30m10.5s"),
        ("-5m", "-5m0s"),
        ("+1m", "1m0s"),
        ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
    ],
)
def test_durations_are_spelled_as_go_does(text: str, spelled: str) -> None:
    assert str(Duration.parse(text)) == spelled


@pytest.mark.parametrize("text", ["", "5", "1", "s", "1 m", "1d", "m1", "1m ", "1..5s", ".s", "--1s", "1e3s", "٣s"])
def test_what_go_does_not_read_as_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        Duration.parse(text)


def test_a_duration_longer_than_gos_is_refused() -> None:
    with pytest.raises(ValueError, match="292 years"):
        Duration.parse("2562047h47m16.854775808s")


@CALM
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_spelled_duration_reads_as_itself(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == Duration(nanoseconds)


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("100Mi", "104857600"),
        ("1.5Ki", "1536"),
        ("0.1Ki", "102.4"),
        ("100m", "0.1"),
        ("1500m", "1.5"),
        ("2k", "2000"),
        ("1E", "1000000000000000000"),
        ("1e3", "1000"),
        ("5E-3", "0.005"),
        ("3n", "0.000000003"),
        ("0", "0"),
        ("-0", "0"),
        ("+7", "7"),
        ("10.", "10"),
        ("10.00", "10"),
    ],
)
def test_quantities_are_decimals(text: str, decimal: str) -> None:
    assert Quantity(text).decimal() == decimal


@pytest.mark.parametrize("text", ["", "Mi", "1mi", "1 Mi", "1MiB", "0x10", "1e", "१", "1,5"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        Quantity(text)


@CALM
@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 9),
    st.sampled_from([("", Fraction(1)), ("m", Fraction(1, 1000)), ("Gi", Fraction(2**30)), ("T", Fraction(10**12))]),
)
def test_a_decimal_is_exact(digits: int, places: int, suffix: tuple[str, Fraction]) -> None:
    number = Fraction(digits, 10**places)
    text = f"{'-' if digits < 0 else ''}{abs(digits) // 10**places}.{abs(digits) % 10**places:0{max(places, 1)}d}"
    if places == 0:
        text = str(digits)
    assert Fraction(Quantity(text + suffix[0]).decimal()) == number * suffix[1]


WORDS = st.text("abcXYZ0129.-/ äß'\"\\$%", min_size=1).filter(lambda text: text.strip() == text)


@CALM
@given(st.dictionaries(WORDS, WORDS))
def test_a_map_reads_back_and_its_order_of_writing_does_not_matter(values: dict[str, str]) -> None:
    text = spell_value(values)
    assert text == spell_value(dict(reversed(values.items())))
    assert dict(pair.split("=") for pair in text.split(",") if text) == values
    assert [pair.split("=")[0] for pair in text.split(",") if text] == sorted(values)


@CALM
@given(st.booleans() | st.integers())
def test_booleans_and_numbers_are_always_printed(value: bool | int) -> None:
    assert flag_args("x", value) == (f"--x={str(value).lower()}",)
