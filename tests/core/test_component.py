"""The engine of component configuration, with a component that exists only here: it knows no component by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protokube.core.component.layers import Settings, merge, read_layer
from protokube.core.component.model import Layer
from protokube.core.component.place import Placed, place_settings
from protokube.core.component.schema import NEWEST, OLDEST, Schema, Version, parse
from protokube.core.component.text import document, environment_file
from protokube.core.component.values import Kind, map_of, word_kind, wrong
from protokube.core.model import Fault


def _hand(value: object) -> object:
    """An item in short, `left:3`, as the map that the file wants."""
    if not isinstance(value, str):
        return value
    side, colon, fingers = value.partition(":")
    if not colon:
        raise wrong(value, "a hand like left:3")
    return {"side": side, "fingers": int(fingers)}


TOY = parse(
    "kube-juggler",
    """
balls int32 balls bb zero 1..9
secureJuggling.pattern cascade|shower pattern lf
secureJuggling.speeds quantities speeds bb keys=@speeds >0..
claims strings claim ff repeat
club string club ff form=club
hands hands hands .c
hands[].side left|right - .c
hands[].fingers int32 - .c old:1..4 new:1..5 optional
period duration period bb 1s..1m|2h..2h
moods moods mood ff
gates gates feature-gates ll exact:keys=@gates
etcdPrefix string etcd-prefix d. # gone with etcd 2
kubeconfig string kubeconfig ff own # protokube writes it
""",
    kinds={
        "hands": Kind(item=_hand, spell=lambda hands: [f"{hand['side']}:{hand['fingers']}" for hand in hands]),
        "moods": Kind(map_of(word_kind("good|bad").read or str, "~"), joint="~"),
    },
    forms={"club": (r"[A-Z][a-z]+", "a club's name like Fire")},
    names={"speeds": "slow=yy fast=.y", "gates": "Clubs=y. Fire=yt Passing=.y"},
    formerly={"numBalls": "balls", "clubs": "clubs were dropped in 1.19"},
)


def placed(version: Version, *layers: dict[str, object], flags: frozenset[str] | None = None) -> Placed:
    read = [read_layer(TOY, Layer("juggler", layer), version) for layer in layers]
    assert [faults for _, faults in read if faults] == []
    settings: Settings = merge(each for each, _ in read)
    return place_settings(TOY, version, settings, flags)


def faults_of(values: dict[str, object], version: Version | None = None) -> list[str]:
    settings, faults = read_layer(TOY, Layer("juggler", values), version)
    if version is not None and not faults:
        faults = place_settings(TOY, version, settings, None).faults
    return [str(fault) for fault in faults]


def test_layers_of_a_toy_component_become_its_flags_and_its_file() -> None:
    low: dict[str, object] = {
        "balls": 3,
        "claims": ["a=b,c", "d"],
        "secureJuggling": {"pattern": "shower", "speeds": "slow=1"},
        "moods": {"monday": "bad"},
        "period": "30s",
    }
    high: dict[str, object] = {"balls": 5, "secureJuggling": {"speeds": {"fast": "2k"}}, "moods": "sunday~good"}
    new = placed(NEWEST, low, high, {"hands": ["left:5", {"side": "right"}]})
    assert new.flags == ("--claim=a=b,c", "--claim=d", "--mood=monday~bad,sunday~good", "--pattern=shower")
    assert document("juggler.k8s.io/v1", "JugglerConfiguration", new.tree).splitlines()[1:] == [
        'apiVersion: "juggler.k8s.io/v1"',
        'kind: "JugglerConfiguration"',
        "balls: 5",
        "hands:",
        "  - fingers: 5",
        '    side: "left"',
        '  - side: "right"',
        'period: "30s"',
        "secureJuggling:",
        "  speeds:",
        '    fast: "2k"',
        '    slow: "1"',
    ]
    assert (new.notes, new.faults) == ((), ())
    assert environment_file("JUGGLER_ARGS", new.flags).splitlines()[1].startswith('JUGGLER_ARGS="--claim=a=b,c ')


@pytest.mark.parametrize(
    ("values", "version", "fault"),
    [
        ({"bals": 3}, None, "juggler.bals: kube-juggler has no such field or flag; the nearest known name is balls"),
        ({"num-balls": 3}, None, "juggler.num-balls: kube-juggler has no such field or flag; it is balls today"),
        ({"clubs": 3}, None, "juggler.clubs: kube-juggler has no such field or flag; clubs were dropped in 1.19"),
        ({"pattern": "shower"}, None, "did you mean secureJuggling.pattern?"),
        ({"balls": 10}, None, "juggler.balls: 10 is wrong; expected 1 to 9"),
        ({"balls": 0}, None, "juggler.balls: 0 is wrong; expected 1 to 9"),
        ({"period": "61s"}, None, "juggler.period: 1m1s is wrong; expected 1s to 1m or 2h to 2h"),
        ({"secureJuggling": {"speeds": {"slow": "0"}}}, None, "speeds: slow: '0' is wrong; expected more than 0"),
        ({"secureJuggling": {"speeds": {"fast": "1"}}}, OLDEST, "'fast' is wrong; expected slow (kube-juggler 1.20"),
        ({"hands": ["left"]}, None, "juggler.hands: 'left' is wrong; expected a hand like left:3"),
        ({"hands": [{"fingers": 3}]}, None, "juggler.hands[0]: {'fingers': 3} is wrong; expected side as well"),
        ({"hands": ["left:6"]}, None, "juggler.hands[0].fingers: 6 is wrong; expected 1 to 5 (kube-juggler 1.36.2)"),
        ({"hands": ["left:3"]}, OLDEST, "juggler.hands: kube-juggler 1.20.2 doesn't know it yet; 1.36.2 does"),
        ({"club": "fire"}, None, "juggler.club: 'fire' is wrong; expected a club's name like Fire"),
        ({"gates": {"Fires": True}}, NEWEST, "juggler.gates: 'Fires' is wrong; expected Fire or Passing (kube"),
        ({"gates": {"Fire": False}}, NEWEST, "Fire: False is wrong; kube-juggler has it locked to true (kube"),
        ({"gates": {"Clubs": True}}, NEWEST, "'Clubs' is wrong; expected Fire or Passing"),
        ({"etcdPrefix": "/x"}, NEWEST, "doesn't know it any more; 1.20.2 did (gone with etcd 2)"),
        ({"kubeconfig": "/x"}, None, "juggler.kubeconfig: can't be configured here: protokube writes it"),
    ],
)  # fmt: skip
def test_what_a_toy_component_refuses(values: dict[str, object], version: Version | None, fault: str) -> None:
    [said] = faults_of(values, version)
    assert fault in said


@pytest.mark.parametrize("version", [None, (1, 28, 0), (1, 37, 0)])
def test_what_came_and_went_between_or_came_later_may_be_known(version: Version | None) -> None:
    assert faults_of({"gates": {"Torches": True}}, version) == []


@pytest.mark.parametrize("version", [OLDEST, (1, 28, 0), NEWEST])
def test_between_versions_what_either_takes_is_taken(version: Version) -> None:
    assert bool(faults_of({"gates": {"Clubs": True}}, version)) == (version == NEWEST)
    assert bool(faults_of({"gates": {"Fire": False}}, version)) == (version == NEWEST)
    assert bool(faults_of({"secureJuggling": {"speeds": {"fast": "1"}}}, version)) == (version == OLDEST)
    known = placed(version, {"secureJuggling": {"pattern": "cascade"}}, flags=frozenset({"pattern"}))
    assert (known.flags, dict(known.tree)) == (
        ((), {"secureJuggling": {"pattern": "cascade"}}) if version == OLDEST else (("--pattern=cascade",), {})
    )


def test_the_versions_that_a_table_knows_are_the_schemas_own() -> None:
    toy: Schema = parse("toy", "a int32 a f. 1..\nb int32 b .f", versions=((1, 30, 0), (1, 32, 0)))
    early = place_settings(toy, (1, 30, 5), read_layer(toy, Layer("toy", {"a": 1, "b": 1}))[0], None)
    assert early.flags == ("--a=1",)
    assert early.faults == (Fault("toy.b", "toy 1.30.5 doesn't know it yet; 1.32.0 does"),)
    assert place_settings(toy, (1, 33, 0), read_layer(toy, Layer("toy", {"b": 1}))[0], None).flags == ("--b=1",)


def test_the_engine_knows_no_component() -> None:
    """Neither by import nor by word: what it says of a component is the component's own."""
    folder = Path(__file__).parents[2] / "protokube/core/component"
    code = (
        "import sys, pkgutil, importlib, protokube.core.component as engine\n"
        "[importlib.import_module(f'{engine.__name__}.{m.name}') for m in pkgutil.iter_modules(engine.__path__)]\n"
        "print([name for name in sys.modules if name.startswith('protokube.core.kubelet')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
    words = ("kubelet.config", "Kubelet", "DAEMON_ARGS", "eviction", "taint_of", "memory.available")
    for module in sorted(folder.glob("*.py")):
        text = module.read_text(encoding="utf-8")
        assert [word for word in words if word in text] == [], module.name


def test_parsing_a_table_costs_nothing_before_its_first_use() -> None:
    code = (
        "import sys, protokube.core.kubelet.schema as schema\n"
        "print(schema.kubelet_schema.cache_info().currsize, {'yaml', 'difflib', 'ipaddress'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0 set()\n"
