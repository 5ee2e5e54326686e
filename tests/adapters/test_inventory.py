"""The inventory as text: what it means, and every fault at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.cloudprovider.static.inventory import (
    Inventory,
    InventoryNode,
    InventoryVolume,
    read_inventory,
)
from protokube.core.model import GIB, Fault
from protokube.core.sizes import parse_size

PATH = "/lab/inventory.yaml"

WHOLE = """\
cluster: dev.example.com
zone: local
nodes:
  - name: node-a
    internalAddress: 10.1.2.3
    externalAddress: 203.0.113.7
    instanceGroup: masters
    members: {main: a, events: a}
volumes:
  - id: main-a
    file: volumes/main-a.img
    size: 1GiB
    tags:
      KubernetesCluster: dev.example.com
      k8s.io/role/master: "1"
      k8s.io/etcd/main: a/a
  - id: events-a
    device: /dev/disk/by-id/nvme-ACME_123
    size: 100GB
    zone: other
"""


def faults(text: str) -> list[str]:
    found = read_inventory(text, PATH)
    assert not isinstance(found, Inventory)
    return [str(fault).removeprefix(f"{PATH}:") for fault in found]


def with_volumes(*lines: str) -> str:
    return "cluster: c\nvolumes:\n" + "".join(f"  - {line}\n" for line in lines)


def test_everything_is_read() -> None:
    assert read_inventory(WHOLE, PATH) == Inventory(
        path=PATH,
        cluster="dev.example.com",
        zone="local",
        nodes=(InventoryNode("node-a", ("10.1.2.3",), ("203.0.113.7",), "masters", {"main": "a", "events": "a"}),),
        volumes=(
            InventoryVolume(
                id="main-a",
                zone="local",
                size=GIB,
                tags={
                    "KubernetesCluster": "dev.example.com",
                    "k8s.io/role/master": "1",
                    "k8s.io/etcd/main": "a/a",
                },
                state="/lab/volumes/main-a.img.state",
                image="/lab/volumes/main-a.img",
                record="/lab/main-a.used",
            ),
            InventoryVolume(
                id="events-a",
                zone="other",
                size=100 * 10**9,
                tags={},
                state="/lab/events-a.state",
                device="/dev/disk/by-id/nvme-ACME_123",
            ),
        ),
    )


def test_only_the_cluster_is_required() -> None:
    assert read_inventory("cluster: c", PATH) == Inventory(PATH, "c", "local", (), ())


def test_all_faults_are_reported_at_once() -> None:
    text = """\
clutser: c
nodes:
  - name: Node_A
    internalAddres: 10.0.0.1
  - internalAddress: 10.0.0.300
volumes:
  - id: ../main
    file: a.img
    size: 1Gi
    tags: {k8s.io/role/master: 1}
"""
    assert faults(text) == [
        "1 clutser: unknown key 'clutser': did you mean 'cluster'?",
        "1 cluster: is required",
        "4 nodes[0].internalAddres: unknown key 'internalAddres': did you mean 'internalAddress'?",
        "3 nodes[0].name: 'Node_A' where a host name (lower case letters, digits, dashes and dots, at most 63) "
        "was expected",
        "5 nodes[1].name: is required",
        "5 nodes[1].internalAddress: '10.0.0.300' where an IP address was expected",
        "7 volumes[0].id: '../main' where an id of letters, digits, dots, dashes and underscores that starts with a "
        "letter or digit, at most 63, was expected",
        "9 volumes[0].size: '1Gi' where a number of bytes with its unit, such as 1GiB, 100GB or 1073741824B, "
        "was expected",
        "10 volumes[0].tags.k8s.io/role/master: 1 where a string (put it in quotes) was expected",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1: nothing where a mapping was expected: the file is empty"),
        ("- a", "1: a list where a mapping was expected"),
        ("cluster: [a", "2: not valid YAML: while parsing a flow sequence"),
        ("cluster: c\n\tzone: x", "2: not valid YAML: "),
        ("cluster: c\n---\ncluster: d", "2: not valid YAML: expected a single document in the stream"),
        ("cluster: !!python/object:os.system c", "1: not valid YAML: could not determine a constructor"),
        ("cluster: &a {b: *a}", "1: not valid YAML: an alias leads back to itself"),
        ("cluster: c\nzone: 2024-13-99", "2: not valid YAML: month must be in 1..12"),
        ("cluster: c\x00", "1: not valid YAML: "),
        ("cluster: c\ncluster: d", "2 cluster: the key is there already, in line 1"),
        ("cluster: true", "1 cluster: true where a string (put it in quotes) was expected"),
        ("cluster: Dev.example.com", "1 cluster: 'Dev.example.com' where a DNS name in lower case"),
        ("cluster: c\nnodes: {name: a}", "2 nodes: a mapping where a list was expected"),
        ("cluster: c\nnodes: [a]", "2 nodes[0]: 'a' where a mapping was expected"),
        ("cluster: c\nnodes:\n  - name: a\n  - name: a", "4 nodes[1].name: 'a' is there already, in line 3"),
        ("cluster: c\nnodes:\n  - name: a/b", "3 nodes[0].name: 'a/b' where a host name"),
        (
            "cluster: c\nnodes:\n  - name: a\n    members: {main: ../a}",
            "4 nodes[0].members.main: '../a' where a DNS label",
        ),
        (
            "cluster: c\nnodes:\n  - {name: a, members: {main: a}}\n  - name: b",
            "3 nodes[0]: internalAddress is required",
        ),
        (with_volumes("{id: a, size: 1GiB}"), "3 volumes[0]: exactly one of 'file' and 'device' was expected"),
        (with_volumes("{id: a, size: 1GiB, file: x, device: /dev/x}"), "3 volumes[0]: exactly one of"),
        (with_volumes("{id: a, file: x}"), "3 volumes[0].size: is required"),
        (
            with_volumes("{id: a, file: x, size: 1073741824}"),
            "3 volumes[0].size: 1073741824 where a number of bytes with",
        ),
        (with_volumes("{id: a, file: x, size: 1MiB}"), "3 volumes[0].size: '1MiB' where 16MiB at least"),
        (with_volumes("{id: a, file: x, size: 100000001B}"), "3 volumes[0].size: '100000001B' where 16MiB at least"),
        (with_volumes("{id: .a, file: x, size: 1GiB}"), "3 volumes[0].id: '.a' where an id of"),
        (with_volumes("{id: a, file: x/, size: 1GiB}"), "3 volumes[0].file: 'x/' where the path of a file"),
        (
            with_volumes("{id: a, file: x, size: 1GiB}", "{id: a, file: y, size: 1GiB}"),
            "4 volumes[1].id: 'a' is there already, in line 3",
        ),
        (
            with_volumes("{id: a, file: x, size: 1GiB}", "{id: b, file: ./z/../x, size: 1GiB}"),
            "4 volumes[1]: its disk /lab/x is the disk of 'a' already",
        ),
        (
            with_volumes("{id: a, file: x, size: 1GiB}", "{id: b, file: x.state, size: 1GiB}"),
            "4 volumes[1]: its disk /lab/x.state is the state of 'a' already",
        ),
        (
            with_volumes("{id: a, file: x, size: 1GiB}", "{id: b, file: a.used, size: 1GiB}"),
            "4 volumes[1]: its disk /lab/a.used is the record of 'a' already",
        ),
        (
            with_volumes("{id: a, file: inventory.yaml, size: 1GiB}"),
            "3 volumes[0]: its disk /lab/inventory.yaml is the inv",
        ),
    ],
)
def test_one_fault(text: str, fault: str) -> None:
    assert faults(text)[0].startswith(fault), faults(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("203.0.113.7", ("203.0.113.7",)),
        ("[203.0.113.7]", ("203.0.113.7",)),
        ("2001:DB8::7", ("2001:db8::7",)),
        ("[2001:db8::7, 203.0.113.7]", ("203.0.113.7", "2001:db8::7")),
        ("", ()),
    ],
)
@pytest.mark.parametrize("key", ["internalAddress", "externalAddress"])
def test_a_node_has_an_address_of_each_family(key: str, written: str, read: tuple[str, ...]) -> None:
    found = read_inventory(f"cluster: c\nnodes: [{{name: a, {key}: {written}}}]", PATH)
    assert isinstance(found, Inventory), found
    assert (found.nodes[0].internal or found.nodes[0].external) == read


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        (
            "[]",
            "externalAddress: a list where an IP address, or a list of one IPv4 and one IPv6 address, was expected",
        ),
        ("[10.0.0.1, 10.0.0.2]", "externalAddress[1]: 10.0.0.2 is the second IPv4 address: expected one"),
        ("[10.0.0.1, x]", "externalAddress[1]: 'x' where an IP address was expected"),
        ("[[10.0.0.1]]", "externalAddress[0]: a list where a string was expected"),
        ("{}", "externalAddress: a mapping where a string was expected"),
        ("0.0.0.0", "externalAddress: '0.0.0.0' where an address of one machine, without an interface, was expected"),
        ("'::'", "externalAddress: '::' where an address of one machine"),
        ("224.0.0.1", "externalAddress: '224.0.0.1' where an address of one machine"),
        ("'fe80::1%eth0'", "externalAddress: 'fe80::1%eth0' where an address of one machine"),
        ("10.0.0.0/8", "externalAddress: '10.0.0.0/8' where an IP address was expected"),
    ],
)
def test_what_is_no_address_of_a_node(written: str, fault: str) -> None:
    (found,) = faults(f"cluster: c\nnodes: [{{name: a, externalAddress: {written}}}]")
    assert found.startswith(f"2 nodes[0].{fault}")


def test_an_alias_is_no_fault() -> None:
    text = with_volumes("{id: a, file: x, size: 1GiB, tags: &t {k: v}}", "{id: b, file: y, size: 1GiB, tags: *t}")
    found = read_inventory(text, PATH)
    assert isinstance(found, Inventory)
    assert [volume.tags for volume in found.volumes] == [{"k": "v"}, {"k": "v"}]


def test_aliases_of_aliases_end() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "far too much" in faults(f"a0: &a0 [x]\n{levels}")[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5GiB", 3 << 29),
        ("1.5 GB", 1_500_000_000),
        ("2TiB", 2 << 40),
        ("0.3KiB", None),
        ("1", None),
        ("1Gi", None),
        ("1gib", None),
        ("-1GiB", None),
        ("1e3B", None),
        ("GiB", None),
        ("١GiB", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@given(st.text(alphabet=" \n\t:-[]{}&*!'\"#abc019./", max_size=60))
def test_any_text_gives_an_inventory_or_faults(text: str) -> None:
    found = read_inventory(text, PATH)
    assert isinstance(found, Inventory) or (found and all(isinstance(fault, Fault) for fault in found))


@given(st.text(max_size=80))
def test_no_volume_id_leaves_its_folder(name: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(letter):08x}" for letter in name) + '"'
    found = read_inventory(with_volumes(f"{{id: {quoted}, file: x, size: 1GiB}}"), PATH)
    if isinstance(found, Inventory):
        assert found.volumes[0].id == name
        assert "/" not in name and not name.startswith(".") and name.isascii() and name.isprintable()
