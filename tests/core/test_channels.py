"""What of an addon channel is applied, recorded and removed, and in which order."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.objects.assess import assess
from protokube.core.objects.channels import (
    hash_of,
    next_step,
    owns_fields,
    read_record,
    read_written,
    record_key,
    same,
    text_of,
)
from protokube.core.objects.model import (
    Applied,
    ChannelFacts,
    Lease,
    Manifest,
    ObjectFacts,
    ObjectKey,
    Written,
    key_of,
)
from protokube.core.objects.plan import plan
from protokube.core.objects.requests import Reserved
from protokube.core.objects.wanted import ObjectsInput, wanted_objects
from protokube.core.steps import Findings, Plan


def config(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "x"}, "data": data}


SPACE: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
ONE, TWO = config("one"), config("two")
ALL = frozenset(map(key_of, (SPACE, ONE, TWO)))


def recorded(*manifests: Manifest) -> tuple[Applied, ...]:
    return tuple(Applied(key_of(one), hash_of(one)) for one in manifests)


def step_of(facts: ChannelFacts) -> Any:
    return next_step(facts, Findings())


def test_what_is_to_be_applied_is_recorded_before_it_is() -> None:
    step = step_of(ChannelFacts("core", (SPACE, ONE), differing=ALL))
    assert not step.apply and step.record is not None
    read = read_record(step.record.manifest)
    assert not isinstance(read, Unknown)
    assert {one.key: one.hash for one in read} == {key_of(SPACE): "", key_of(ONE): ""}
    assert step.record.key == record_key("core")


def test_what_others_need_is_applied_first() -> None:
    begun = tuple(Applied(key, "") for key in ALL)
    facts = ChannelFacts("core", (ONE, SPACE, TWO), begun, ALL)
    assert [one.key for one in step_of(facts).apply] == [key_of(SPACE)]
    facts = replace(facts, differing=ALL - {key_of(SPACE)})
    assert {one.key for one in step_of(facts).apply} == {key_of(ONE), key_of(TWO)}


def test_when_all_is_applied_the_record_says_so_and_then_nothing_is_done() -> None:
    step = step_of(ChannelFacts("core", (ONE,), (Applied(key_of(ONE), ""),)))
    assert step.record is not None and read_record(step.record.manifest) == recorded(ONE)
    assert step_of(ChannelFacts("core", (ONE,), recorded(ONE))) is None


def test_only_what_the_channel_applied_and_still_owns_is_removed() -> None:
    mine = key_of(TWO)
    facts = ChannelFacts("core", (ONE,), recorded(ONE, TWO), owned=frozenset({mine}))
    assert step_of(facts).remove == (mine,)
    taken_over = step_of(replace(facts, owned=frozenset()))
    assert not taken_over.remove and read_record(taken_over.record.manifest) == recorded(ONE)
    assert step_of(replace(facts, prune=False)) is None, "and without prune it stays in the record"
    assert step_of(replace(facts, record=recorded(ONE))) is None, "what it never applied is nothing of its"


def test_the_same_object_in_another_version_is_not_removed() -> None:
    old, new = ({**ONE, "apiVersion": f"policy/{one}", "kind": "Budget"} for one in ("v1beta1", "v1"))
    facts = ChannelFacts("core", (new,), recorded(old, new), owned=frozenset({key_of(old)}))
    step = step_of(facts)
    assert not step.remove and read_record(step.record.manifest) == recorded(new)


def test_what_was_there_before_the_channel_stays_and_the_record_remembers_that() -> None:
    facts = ChannelFacts("core", (ONE, TWO), differing=ALL, foreign=frozenset({key_of(TWO)}))
    begun = read_record(step_of(facts).record.manifest)
    assert not isinstance(begun, Unknown) and {one.key: one.made for one in begun} == {
        key_of(ONE): True,
        key_of(TWO): False,
    }
    record = tuple(replace(one, hash=hash_of(ONE)) if one.made else one for one in begun)
    assert step_of(ChannelFacts("core", (ONE,), record, owned=frozenset({key_of(TWO)}))) is None


def test_what_holds_others_objects_is_never_removed() -> None:
    assert step_of(ChannelFacts("core", (ONE,), recorded(SPACE, ONE), owned=frozenset({key_of(SPACE)}))) is None


def test_an_empty_channel_removes_nothing_and_is_told() -> None:
    findings = Findings()
    facts = ChannelFacts("core", (), recorded(ONE, TWO), owned=frozenset({key_of(ONE), key_of(TWO)}))
    assert next_step(facts, findings) is None
    assert [one.rule for one in findings.refusals] == ["addons/empty"]


def test_a_node_that_was_overtaken_writes_nothing_and_one_with_a_new_text_does() -> None:
    findings = Findings()
    facts = ChannelFacts("core", (ONE,), recorded(ONE, TWO), ALL, text="mine", written=Written("theirs", "n2"))
    assert next_step(replace(facts, unchanged=True), findings) is None
    (refused,) = findings.refusals
    assert refused.rule == "addons/sources-differ" and "n2" in refused.evidence
    begun = next_step(facts, findings, "n1")  # others learn of it before it is applied
    assert begun is not None and not begun.apply and begun.record is not None, (
        "others learn of it before it is applied"
    )
    assert read_written(begun.record.manifest) == Written("mine", "n1")
    step = next_step(replace(facts, written=Written("mine", "n1"), unchanged=True), findings)
    assert step is not None and step.apply


def test_the_order_of_manifests_is_no_other_text() -> None:
    assert text_of((ONE, TWO)) == text_of((TWO, ONE)) != text_of((ONE,))


def test_what_is_held_waits() -> None:
    findings, mine = Findings(), key_of(TWO)
    facts = ChannelFacts("core", (ONE,), recorded(ONE, TWO), owned=frozenset({mine}), held={mine: "too early"})
    assert next_step(facts, findings) is None
    assert [one.reason for one in findings.waiting] == ["ConfigMap x/two isn't removed yet: too early"]


def test_what_can_t_be_read_changes_nothing() -> None:
    findings = Findings()
    assert next_step(ChannelFacts("core", Unknown("no YAML"), recorded(ONE)), findings) is None
    assert next_step(ChannelFacts("core", (), Unknown("not ours")), findings) is None
    assert [one.reason for one in findings.unknown] == ["no YAML", "not ours"]
    assert isinstance(read_record({"metadata": {"name": "r"}, "data": {"applied": "["}}), Unknown)
    assert isinstance(read_record({"metadata": {"name": "r"}}), Unknown)


def test_one_node_writes_at_a_time() -> None:
    own = wanted_objects(ObjectsInput("n1", "https://a", ""))
    found = {one.key: one.manifest for one in own}
    facts = ObjectFacts(asked=True, found=found, channels=(ChannelFacts("core", (ONE,), differing=ALL),))

    def kinds(lease: Lease) -> list[str]:
        out = Plan()
        plan(assess(own, replace(facts, lease=lease), Reserved(), "n1"), out)
        return [step.action.kind for step in out.steps] + [one.reason for one in out.waiting]

    assert kinds(Lease()) == ["take-lease"] and kinds(Lease("n2", alive=False)) == ["take-lease"]
    assert kinds(Lease("n2", alive=True)) == ["n2 applies them"]
    assert kinds(Lease("n1", alive=True)) == ["apply-object"]


def test_objects_are_the_same_but_for_what_the_server_counts() -> None:
    found = {"metadata": {"name": "a", "resourceVersion": "1", "generation": 2, "managedFields": []}, "data": {}}
    assert same(found, {"metadata": {"name": "a", "resourceVersion": "2"}, "data": {}})
    assert not same(found, {"metadata": {"name": "a"}, "data": {"more": ""}})
    owned = {"metadata": {"managedFields": [{"manager": "protokube-addons-core"}]}}
    assert owns_fields(owned, "protokube-addons-core") and not owns_fields(owned, "protokube-addons-other")
    assert ObjectKey("v1", "Namespace", "x") == key_of(SPACE)
