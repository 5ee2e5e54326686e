"""A strict EC2: moto's server in a thread, with the rules put back that moto leaves out.

moto lets a second instance steal an attached volume, ignores zones, device names, instance states and the
attachment limit, knows no `attaching` phase and doesn't page volumes. All of that is added in front of it, where the
requests come in, together with what goes wrong on demand: throttling, missing permissions, any error code,
late devices, a volume that falls back from `attaching` to `available`.

    with StrictEc2() as ec2:
        node = ec2.run_instance("us-east-1a", {"KubernetesCluster": "c.example.com"})
        volume = ec2.create_volume("us-east-1a", {"k8s.io/etcd/main": "a/a"})
        ...                      # the code under test, with ec2.environment()
        assert ec2.operations() == ["DescribeVolumes"]

Error codes and texts are EC2's own. Its account is its own too, so several may run side by side. STS answers at the
same address (`AWS_ENDPOINT_URL_STS`), as moto has it.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import boto3
from botocore.config import Config
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "us-east-1"
IMAGE = "ami-12c6146b"
NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"
_CONTROL = "strict-ec2-control"


@dataclass(frozen=True)
class Call:
    """One request of the code under test. `error` is the code that it was answered with, None for success; `key` the
    access key that signed it, None for none."""

    operation: str
    parameters: Mapping[str, str]
    error: str | None = None
    key: str | None = None


class Ec2Error(Exception):
    """An error answer in EC2's form."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class StrictEc2:
    """The server. Everything may be changed while it runs.

    `attaching_looks`: how many DescribeVolumes show a new attachment as `attaching`; `attaching_seconds`: for how
    long it is so at least; `lagging_looks`: how many show the volume as it was before. `falls_back`: volumes that
    return to `available` instead of becoming `attached`.
    `on_attach(volume, instance, device)` is called when an attachment is accepted: there a test makes the device
    appear, sooner or later. `page_size`: volumes, or reservations, per page at most. `attachment_limit`: volumes per
    instance, the root volume included. `name_taken`: the code for a device name in use. `denied`: operations that the
    caller's role may not use.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.calls: list[Call] = []
        self.attaching_looks = 0
        self.attaching_seconds = 0.0
        self.lagging_looks = 0
        self.falls_back: set[str] = set()
        self.on_attach: Callable[[str, str, str], None] | None = None
        self.page_size = 500
        self.attachment_limit = 28
        self.name_taken = "InvalidParameterValue"
        self.denied: set[str] = set()
        self.account = "".join(secrets.choice("123456789") for _ in range(12))
        self._attaching: dict[str, tuple[int, float]] = {}
        self._unseen: dict[str, int] = {}
        self._lost: list[str] = []
        self._throttled_until = 0.0
        self._failures: list[tuple[str, Ec2Error]] = []
        self._lock = threading.RLock()
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(address, port, self._application, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._client: Any = None

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # 1,300 images that nobody starts
        self._thread.start()
        self._client = boto3.client(
            "ec2",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="control",
            aws_secret_access_key="control",
            config=Config(user_agent_extra=_CONTROL, retries={"total_max_attempts": 1}),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._server.host}:{self._server.server_port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead an AWS SDK here, with credentials."""
        return {
            "AWS_ENDPOINT_URL_EC2": self.url,
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    # --- what the operator does --------------------------------------------------------------------

    def run_instance(self, zone: str, tags: Mapping[str, str], private_ip: str | None = None) -> dict[str, Any]:
        """Start an instance and return its description."""
        asked: dict[str, Any] = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "InstanceType": "m5.large"}
        made = self._client.run_instances(**asked, Placement={"AvailabilityZone": zone})["Instances"][0]
        if private_ip:
            self._backend.get_instance(made["InstanceId"]).nics[0].private_ip_address = private_ip
        self.tag(made["InstanceId"], tags)
        return self.instance(made["InstanceId"])

    def instance(self, instance_id: str) -> dict[str, Any]:
        """An instance's description."""
        described: dict[str, Any] = self._client.describe_instances(InstanceIds=[instance_id])
        found: dict[str, Any] = described["Reservations"][0]["Instances"][0]
        return found

    def create_volume(self, zone: str, tags: Mapping[str, str], size: int = 20, **more: Any) -> str:
        """Make a volume of `size` GiB and return its id."""
        made = self._client.create_volume(AvailabilityZone=zone, Size=size, **more)
        volume_id = str(made["VolumeId"])
        self.tag(volume_id, tags)
        return volume_id

    def tag(self, resource: str, tags: Mapping[str, str]) -> None:
        """Tag a volume or instance."""
        if tags:
            self._client.create_tags(Resources=[resource], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])

    def untag(self, resource: str, key: str) -> None:
        """Take a tag from a volume or instance."""
        self._client.delete_tags(Resources=[resource], Tags=[{"Key": key}])

    def tags(self, volume_id: str) -> dict[str, str]:
        """A volume's tags."""
        found = self._client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
        return {tag["Key"]: tag["Value"] for tag in found.get("Tags", ())}

    def holder(self, volume_id: str) -> str | None:
        """The instance that a volume is attached (or attaching) to."""
        attachment = self._backend.get_volume(volume_id).attachment
        return attachment.instance.id if attachment else None

    def attach(self, volume_id: str, instance_id: str, device: str) -> None:
        """Attach a volume by hand; it is `attached` at once."""
        with self._lock:
            self._backend.attach_volume(volume_id, instance_id, device)

    def detach(self, volume_id: str) -> None:
        """Detach a volume by hand."""
        with self._lock:
            self._attaching.pop(volume_id, None)
            attachment = self._backend.get_volume(volume_id).attachment
            self._backend.detach_volume(volume_id, attachment.instance.id, attachment.device)

    def set_state(self, instance_id: str, state: str) -> None:
        """Put an instance into a state, such as `shutting-down`, without further effects."""
        self._backend.get_instance(instance_id)._state.name = state

    def stop(self, instance_id: str) -> None:
        """Stop an instance; its volumes stay attached."""
        self._client.stop_instances(InstanceIds=[instance_id])

    def terminate(self, instance_id: str) -> None:
        """Terminate an instance; its volumes are detached."""
        for volume in list(self._backend.volumes.values()):
            if volume.attachment and volume.attachment.instance.id == instance_id:
                self.detach(volume.id)
        self._client.terminate_instances(InstanceIds=[instance_id])

    # --- what goes wrong ---------------------------------------------------------------------------

    def throttle(self, seconds: float) -> None:
        """Refuse every call with RequestLimitExceeded for a while; 0 ends it."""
        self._throttled_until = time.monotonic() + seconds

    def fail_next(self, operation: str, code: str, message: str = "", status: int = 400) -> None:
        """Answer the next call of `operation` with an error."""
        self._failures.append((operation, Ec2Error(code, message, status)))

    def lose_next(self, operation: str) -> None:
        """Carry the next call of `operation` out, and answer with an error."""
        self._lost.append(operation)

    # --- what was asked ----------------------------------------------------------------------------

    def operations(self) -> list[str]:
        """The operations called since the last `forget`, refused ones included."""
        return [call.operation for call in self.calls]

    def forget(self) -> None:
        """Begin a new record."""
        self.calls.clear()

    # --- inside ------------------------------------------------------------------------------------

    @property
    def _backend(self) -> Any:
        return ec2_backends[self.account][REGION]

    def _application(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        asked = dict(parse_qsl(body.decode()))
        if _CONTROL in environ.get("HTTP_USER_AGENT", ""):
            return self._inner(environ, start)  # type: ignore[no-any-return]
        operation = asked.pop("Action", "?")
        signed = re.search(r"Credential=(\w+)/", environ.get("HTTP_AUTHORIZATION", ""))
        key = signed[1] if signed else None
        try:
            status, headers, answer = self._answer(operation, asked, environ)
        except Ec2Error as error:
            self.calls.append(Call(operation, asked, error.code, key))
            status, headers, answer = f"{error.status} {error.code}", [("Content-Type", "text/xml")], _error(error)
        else:
            self.calls.append(Call(operation, asked, None if status.startswith("200") else status, key))
        start(status, [(name, value) for name, value in headers if name.lower() != "content-length"])
        return [answer]

    def _answer(self, operation: str, asked: dict[str, str], environ: dict[str, Any]) -> tuple[str, list[Any], bytes]:
        if time.monotonic() < self._throttled_until:
            raise Ec2Error("RequestLimitExceeded", "Request limit exceeded.", 503)
        if operation in self.denied:
            raise Ec2Error(
                "UnauthorizedOperation",
                "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/r/i is "
                f"not authorized to perform: ec2:{operation} on resource: * because no identity-based policy allows "
                f"the ec2:{operation} action. Encoded authorization failure message: 4KpT0f8x",
                403,
            )
        with self._lock:
            for position, (failing, error) in enumerate(self._failures):
                if failing == operation:
                    del self._failures[position]
                    raise error
            answer = self._carry_out(operation, asked, environ)
            if operation in self._lost:
                self._lost.remove(operation)
                raise Ec2Error("InternalError", "An internal error has occurred", 500)
            return answer

    def _carry_out(
        self, operation: str, asked: dict[str, str], environ: dict[str, Any]
    ) -> tuple[str, list[Any], bytes]:
        if operation == "AttachVolume":
            return self._attach(asked, environ)
        if operation == "DescribeVolumes":
            self._pass_time()
            return self._page("volumeSet", asked, self._ask(environ))
        if operation == "DescribeInstances":
            # moto's own pages have other tokens, and don't know `page_size`.
            whole = {key: value for key, value in asked.items() if key not in ("MaxResults", "NextToken")}
            body = urlencode({"Action": operation, **whole}).encode()
            unpaged = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            return self._page("reservationSet", asked, self._ask(unpaged))
        return self._ask(environ)

    def _ask(self, environ: dict[str, Any]) -> tuple[str, list[Any], bytes]:
        seen: list[Any] = []
        answer = b"".join(self._inner(environ, lambda status, headers, *_: seen.extend((status, headers))))
        return seen[0], seen[1], answer

    def _attach(self, asked: dict[str, str], environ: dict[str, Any]) -> tuple[str, list[Any], bytes]:
        volume_id, instance_id, device = (asked.get(key, "") for key in ("VolumeId", "InstanceId", "Device"))
        volume = self._backend.volumes.get(volume_id)
        instance = next((one for one in self._backend.all_instances() if one.id == instance_id), None)
        if volume is None:
            raise Ec2Error("InvalidVolume.NotFound", f"The volume '{volume_id}' does not exist.")
        if instance is None:
            raise Ec2Error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        if volume.attachment and not volume.multi_attach_enabled:
            raise Ec2Error("VolumeInUse", f"{volume_id} is already attached to an instance")
        if instance._state.name not in ("running", "stopped"):
            raise Ec2Error("IncorrectState", f"Instance '{instance_id}' is not 'running'.")
        if volume.zone.name != instance.placement.zone:
            raise Ec2Error(
                "InvalidVolume.ZoneMismatch",
                f"The volume '{volume_id}' is not in the same availability zone as instance '{instance_id}'",
            )
        if _point(device) in map(_point, instance.block_device_mapping):
            said = {
                "InvalidParameterValue": f"Invalid value '{device}' for unixDevice. Attachment point {device} is "
                "already in use",
                "InvalidDevice.InUse": f"The device '{device}' is already in use on the instance.",
            }
            raise Ec2Error(self.name_taken, said[self.name_taken])
        if len(instance.block_device_mapping) >= self.attachment_limit:
            raise Ec2Error(
                "AttachmentLimitExceeded",
                f"You may attach up to {self.attachment_limit} devices for this instance type.",
            )
        answer = self._ask(environ)
        volume.attachment.status = "attaching"
        self._unseen[volume_id] = self.lagging_looks
        self._attaching[volume_id] = (self.attaching_looks, time.monotonic() + self.attaching_seconds)
        if self.on_attach:
            self.on_attach(volume_id, instance_id, device)
        return answer

    def _pass_time(self) -> None:
        for volume_id, (looks, until) in list(self._attaching.items()):
            if looks > 0 or time.monotonic() < until:
                self._attaching[volume_id] = (looks - 1, until)
            elif volume_id in self.falls_back:
                self.detach(volume_id)
            else:
                del self._attaching[volume_id]
                self._backend.get_volume(volume_id).attachment.status = "attached"

    def _page(
        self, name: str, asked: dict[str, str], answer: tuple[str, list[Any], bytes]
    ) -> tuple[str, list[Any], bytes]:
        status, headers, body = answer
        if not status.startswith("200"):
            return answer
        limit = min(self.page_size, int(asked.get("MaxResults") or asked.get("maxResults") or 1000))
        token = asked.get("NextToken", "page-0")
        if not token.startswith("page-"):
            raise Ec2Error("InvalidPaginationToken", f"The pagination token {token} is not valid")
        start = int(token.removeprefix("page-"))
        ET.register_namespace("", NAMESPACE)
        root = ET.fromstring(body)
        found = root.find(f"{{{NAMESPACE}}}{name}")
        if found is None:
            raise AssertionError(f"moto's answer has no {name}: {body!r}")
        if name == "volumeSet":
            self._leave_out(found)
        items = list(found)
        for item in [*items[:start], *items[start + limit :]]:
            found.remove(item)
        if start + limit < len(items):
            ET.SubElement(root, f"{{{NAMESPACE}}}nextToken").text = f"page-{start + limit}"
        return status, headers, ET.tostring(root)

    def _leave_out(self, volumes: ET.Element) -> None:
        """Show volumes that were attached a moment ago as they were before."""
        for item in volumes:
            volume_id = item.findtext(f"{{{NAMESPACE}}}volumeId", "")
            status, attached = item.find(f"{{{NAMESPACE}}}status"), item.find(f"{{{NAMESPACE}}}attachmentSet")
            if self._unseen.get(volume_id, 0) and status is not None and attached is not None:
                self._unseen[volume_id] -= 1
                status.text = "available"
                attached.clear()


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """No log."""


def _point(device: str) -> str:
    """Where a device name attaches: sdf, /dev/sdf and /dev/xvdf are one and the same."""
    return re.sub(r"^sd", "xvd", device.removeprefix("/dev/"))


def _error(error: Ec2Error) -> bytes:
    root = ET.Element("Response")
    one = ET.SubElement(ET.SubElement(root, "Errors"), "Error")
    ET.SubElement(one, "Code").text = error.code
    ET.SubElement(one, "Message").text = error.message
    ET.SubElement(root, "RequestID").text = "00000000-0000-0000-0000-000000000000"
    return ET.tostring(root)
