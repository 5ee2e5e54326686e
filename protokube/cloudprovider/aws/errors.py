"""EC2's error codes → ProviderErrors that name the remedy.

Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. The same table, for people,
stands in docs/aws.md; a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
    VolumeInUseError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_THROTTLED = "the account's request rate is used up; it is tried again after growing pauses"
_SERVER = "an error inside AWS; it is tried again after growing pauses"
_CREDENTIALS = "check the instance profile's role, and this machine's clock"
_SIGNATURE = f"{_CREDENTIALS}; a proxy that changes requests on their way does this too"

_SERVER_ERROR = 500
_NEXT_NAME = "the next free device name is tried once EC2 shows the disk that has this one"

HINTS = {
    "VolumeInUse": "it is attached already, to another node or by our own earlier request; the next look decides",
    "IncorrectState": (
        "the volume is still being created or detached, or the instance is not running; it is tried again. "
        "If it stays so, look at the volume's state in EC2"
    ),
    "IncorrectInstanceState": "the instance is not running; it is tried again",
    "InvalidVolume.ZoneMismatch": (
        "a volume serves its own availability zone only: copy it there through a snapshot, or correct its tags"
    ),
    "AttachmentLimitExceeded": (
        "this instance type takes no more volumes and network interfaces: detach some, or use a larger type"
    ),
    "InvalidVolumeID.Malformed": "an id that EC2 itself gave: look whether AWS_ENDPOINT_URL leads to something else",
    "InvalidVolume.NotFound": "the volume was deleted, or is not visible yet; the next look decides",
    "InvalidInstanceID.NotFound": "the instance is not visible yet, or the credentials belong to another account",
    "InvalidParameterValue": "EC2 refuses the value; look whether the instance type supports this volume",
    "UnsupportedOperation": "this instance type can't attach this volume (encrypted, or of this kind)",
    "EncryptedVolumesNotSupported": (
        "this instance type takes no encrypted volumes: use another type, or volumes without encryption"
    ),
    "CustomerKeyHasBeenRevoked": (  # in no list; seen in the field
        "the volume's KMS key is disabled or forbidden: enable it, and grant this role kms:CreateGrant and "
        "kms:Decrypt on it"
    ),
    "RequestLimitExceeded": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "InternalError": _SERVER,
    "InternalFailure": _SERVER,
    "ServiceUnavailable": _SERVER,
    "Unavailable": _SERVER,
    "UnauthorizedOperation": (
        "the instance's role lacks this permission; docs/aws.md has the policy. An encoded message is explained by "
        "`aws sts decode-authorization-message --encoded-message …`"
    ),
    "AuthFailure": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "RequestExpired": _CREDENTIALS,
    "SignatureDoesNotMatch": _SIGNATURE,
    "IncompleteSignature": _SIGNATURE,
    "MissingAuthenticationToken": _SIGNATURE,
    "InvalidPaginationToken": "the next page is gone; the next reconcile begins with the first",
    "OptInRequired": "this account is not subscribed to EC2 in this region",
    "PendingVerification": "AWS still verifies the account; if it stays so, ask AWS support",
    "Blocked": "the AWS account is blocked: ask AWS support",
    "TagLimitExceeded": "the volume has 50 tags already: remove one that nothing needs",
    "TagPolicyViolation": "the organisation's tag policy forbids this tag: allow keys under protokube.k8s.io/",
}
"""Error code → the next step, and the remedy."""


VOLUME_DENIED = frozenset(
    {
        "InvalidVolume.ZoneMismatch",
        "InvalidVolume.NotFound",
        "InvalidVolumeID.Malformed",
        "InvalidParameterValue",
        "UnsupportedOperation",
        "EncryptedVolumesNotSupported",
        "CustomerKeyHasBeenRevoked",
    }
)
"""Codes with which EC2 refuses one volume for its own properties, while it may attach another one."""


def explain(operation: str, subject: str, error: ClientError, device: str | None = None) -> ProviderError:
    """The ProviderError for a refused call; raise it from `error`.

    `operation` is EC2's word (`AttachVolume`), `subject` its arguments for people, `device` the requested device
    name.
    """
    told = error.response.get("Error", {})
    code, said = told.get("Code") or "no error code", told.get("Message") or ""
    taken = device is not None and (
        code == "InvalidDevice.InUse" or (code == "InvalidParameterValue" and "already in use" in said)
    )
    hint = _NEXT_NAME if taken else HINTS.get(code, "look the code up in EC2's list of error codes")
    message = f"EC2 {operation} {subject}: {code}: {said.rstrip('.')} ({hint})"
    if taken and device is not None:
        return DeviceConflictError(device, message)
    if operation == "AttachVolume":
        return _attach_error(code, said, error)(message)
    if code in ("UnauthorizedOperation", "TagPolicyViolation") and operation == "CreateTags":
        return TaggingForbiddenError(
            f"{message}; the node runs without its marks on volumes, which are evidence against starting an etcd "
            "member as new"
        )
    return ProviderError(message)


def _attach_error(code: str, said: str, error: ClientError) -> type[ProviderError]:
    """The kind of error of a refused AttachVolume, which decides the next claim."""
    if code == "VolumeInUse" or (code == "IncorrectState" and "vol-" in said):  # else it is the instance's state
        return VolumeInUseError
    if code in VOLUME_DENIED:
        return VolumeDeniedError
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= _SERVER_ERROR and HINTS.get(code) != _THROTTLED:
        return OutcomeUnknownError
    return ProviderError
