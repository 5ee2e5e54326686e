"""What may be asked of EC2: the permissions, the model of the API, and where it is asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.session import Session

from protokube import awsclient
from protokube.cloudprovider.aws import provider
from protokube.cloudprovider.aws.ec2 import METHODS
from protokube.cloudprovider.aws.errors import HINTS, VOLUME_DENIED
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG
from tests.lab.aws import Lab, forget_credentials, one_round
from tests.lab.ec2 import REGION

DOCS = Path(__file__).parents[2] / "docs" / "aws.md"


# --- permissions, the model of the API, and what it costs ----------------------------------------------


def policy() -> list[dict[str, Any]]:
    (text,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def test_the_documented_policy_is_every_call_and_nothing_else() -> None:
    allowed = [action for statement in policy() for action in actions(statement)]
    assert sorted(allowed) == sorted(f"ec2:{operation}" for operation in METHODS)
    assert not [one for one in allowed if "*" in one]


def test_no_other_call_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    made = awsclient.client("ec2", REGION)
    assert set(made.meta.service_model.operation_names) == set(METHODS)
    assert {made.meta.method_to_api_mapping[method] for method in METHODS.values()} == set(METHODS)
    source = "".join(path.read_text() for path in Path(provider.__file__).parent.glob("*.py"))
    assert set(re.findall(r'_(?:call|pages)\(\s*"(\w+)"', source)) == set(METHODS)


def test_every_call_was_seen_by_ec2_and_is_in_the_policy(lab: Lab) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume("events"), other, "/dev/xvdu")
    volume_id = lab.volume()
    cloud = AwsCloud()
    one_round(cloud)
    cloud.attach(volume_id)
    for key in (FILESYSTEM_TAG, BOOTSTRAPPED_TAG):
        cloud.tag(volume_id, key, "x")
    assert set(lab.ec2.operations()) == set(METHODS)
    assert {call.error for call in lab.ec2.calls} == {None}


def test_only_our_own_tags_may_be_written_and_only_on_the_clusters_volumes() -> None:
    (marking,) = (statement for statement in policy() if "ec2:CreateTags" in actions(statement))
    conditions = marking["Condition"]
    assert set(conditions["ForAllValues:StringEquals"]["aws:TagKeys"]) == {FILESYSTEM_TAG, BOOTSTRAPPED_TAG}
    assert conditions["Null"] == {"aws:TagKeys": "false"}  # ForAllValues is true of a request without keys
    assert marking["Resource"].endswith(":volume/*")
    for statement in policy():
        looks = all(action.startswith("ec2:Describe") for action in actions(statement))
        assert looks or "aws:ResourceTag/KubernetesCluster" in statement["Condition"]["StringEquals"]


def test_every_explained_code_is_in_the_documentation() -> None:
    table = DOCS.read_text()
    assert [code for code in (*HINTS, *VOLUME_DENIED, "InvalidDevice.InUse") if f"`{code}`" not in table] == []
    assert set(HINTS) >= VOLUME_DENIED


def test_looking_only_describes(lab: Lab) -> None:
    lab.ec2.attach(lab.volume(), lab.another_node(), "/dev/xvdu")
    cloud = AwsCloud()
    for _ in range(2):
        one_round(cloud)
    assert {operation.startswith("Describe") for operation in lab.ec2.operations()} == {True}


def test_our_model_of_the_api_is_a_part_of_botocores() -> None:
    path = "ec2/2016-11-15/service-2"
    ours = json.loads((awsclient.MODELS / f"{path}.json").read_text())
    full = Loader().load_data(path)

    def compare(mine: str, theirs: str, place: str) -> None:
        a, b = ours["shapes"][mine], full["shapes"][theirs]
        assert (a["type"], a.get("required")) == (b["type"], b.get("required")), place
        members = [(a["members"][key], b["members"][key], f"{place}.{key}") for key in a.get("members", ())]
        if "member" in a:
            members.append((a["member"], b["member"], f"{place}[]"))
        for one, other, inner in members:
            assert one.get("locationName") == other.get("locationName"), inner
            compare(one["shape"], other["shape"], inner)

    assert ours["metadata"] == full["metadata"]
    for name, operation in ours["operations"].items():
        assert operation["http"] == full["operations"][name]["http"]
        for side in ("input", "output"):
            if side in operation:
                compare(operation[side]["shape"], full["operations"][name][side]["shape"], f"{name}.{side}")


@pytest.mark.parametrize(
    ("region", "variables"),
    [
        ("us-east-1", {}),
        ("eu-central-1", {}),
        ("cn-north-1", {}),
        ("us-gov-west-1", {}),
        ("us-iso-east-1", {}),
        ("xx-unheard-of-9", {}),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
    ],
)
@pytest.mark.parametrize("service", ["ec2", "sts"])
def test_the_lean_client_asks_where_botocores_own_would(
    service: str, region: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**variables, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(name, value)

    class SeenError(Exception):
        pass

    def asked(client: Any) -> tuple[str, str]:
        method, operation = {"ec2": ("describe_volumes", "DescribeVolumes")}.get(
            service, ("get_caller_identity", "GetCallerIdentity")
        )

        def stop(request: Any, **_: object) -> None:
            raise SeenError(request.url, re.sub(r"(/\d{8}/|Signature=).*", "", str(request.headers["Authorization"])))

        client.meta.events.register(f"before-send.{service}.{operation}", stop)
        with pytest.raises(SeenError) as caught:
            getattr(client, method)()
        return caught.value.args

    forget_credentials()
    lean = asked(awsclient.client(service, region))
    forget_credentials()
    assert lean == asked(Session().create_client(service, region_name=region))


def test_choosing_aws_does_not_load_botocore() -> None:
    code = (
        "import sys; from protokube.cloudprovider.aws.provider import AwsCloud; AwsCloud(); "
        "sys.exit(sorted(m for m in sys.modules if m.split('.')[0] in ('boto3', 'botocore', 'urllib3')) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
