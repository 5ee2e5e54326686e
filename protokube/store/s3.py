"""A store in an S3 bucket.

Conditional writes (`If-None-Match: *`, `If-Match`) let exactly one of several writers win. S3 answers 412 when the
condition fails, 404 when the object to replace is gone, and 409 ConditionalRequestConflict when another write of the
same key is under way: then the same write is tried again, a few times (userguide, "How to prevent object overwrites
with conditional writes"). Server-side encryption is asked for with every write, and its confirmation demanded.
botocore is imported with the first request.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from protokube.core.model import GIB, MIB
from protokube.errors import StoreConflictError, StoreError
from protokube.ports import StoredObject
from protokube.store.names import check_deletable, check_name, check_prefix
from protokube.store.parts import MOST_PARTS, PART, Upload, begin

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger("protokube")

TRIES = 5
"""How often a write is tried while S3 answers that others are under way."""

LARGEST = 5 * GIB
"""The largest object that one PutObject may make (userguide, "Uploading objects"); a larger one is sent in parts."""

_LONGEST_PAUSE = 0.2
_DEFAULT_REGION = "us-east-1"
_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct --store",
    "AccessDenied": "the instance profile needs s3:GetObject, s3:PutObject and s3:ListBucket there, and for backups "
    "s3:DeleteObject and s3:AbortMultipartUpload; without s3:ListBucket S3 doesn't tell an absent object from a "
    "forbidden one",
    "InvalidAccessKeyId": "check the instance profile, or the credentials in the environment",
    "SignatureDoesNotMatch": "check the credentials in the environment, and the clock",
    "ExpiredToken": "check the credentials in the environment, and the clock",
    "RequestTimeTooSkewed": "set the clock",
    "SlowDown": "the next reconcile tries again, more slowly",
}


class _RefusedError(Exception):
    """S3 answered a call with an error."""

    def __init__(self, code: str, status: int) -> None:
        self.code, self.status = code, status
        super().__init__(code)


def _body(content: bytes | Path) -> AbstractContextManager[bytes | IO[bytes]]:
    return content.open("rb") if isinstance(content, Path) else nullcontext(content)


class S3Store:
    """The objects of a bucket below `prefix`, which is empty or ends with a slash; implements `ports.Store`.

    `imds_v1`: the metadata service may be asked for credentials without a token where it gives none. `largest`: bytes
    that one request sends.
    """

    def __init__(self, bucket: str, prefix: str, *, imds_v1: bool = False, largest: int = LARGEST) -> None:
        self._bucket, self._prefix, self._imds_v1, self._largest = bucket, prefix, imds_v1, largest
        self._made: S3Client | None = None

    def get(self, name: str) -> StoredObject | None:
        """See ports.StoreReader."""
        key = self._key(name)
        try:
            with self._asking(f"GetObject {key}") as client:
                answer = client.get_object(Bucket=self._bucket, Key=key)
                return StoredObject(answer["Body"].read(), answer["ETag"])
        except _RefusedError as refused:
            if refused.code == "NoSuchKey":
                return None
            raise self._failed(f"GetObject {key}", refused) from refused

    def list(self, prefix: str) -> Sequence[str]:
        """See ports.StoreReader."""
        what = f"ListObjectsV2 {self._prefix}{check_prefix(prefix)}"
        names: list[str] = []
        more: dict[str, Any] = {}
        try:
            with self._asking(what) as client:
                while True:
                    answer = client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more)
                    names += [one["Key"].removeprefix(self._prefix) for one in answer.get("Contents", [])]
                    if not answer.get("IsTruncated"):
                        return sorted(names)
                    more = {"ContinuationToken": answer["NextContinuationToken"]}
        except _RefusedError as refused:
            raise self._failed(what, refused) from refused

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """See ports.Store."""
        return self._put(name, content, {"IfNoneMatch": "*"})

    def compare_and_swap(self, name: str, content: bytes, version: str) -> bool:
        """See ports.Store."""
        return self._put(name, content, {"IfMatch": version})

    def put_file_if_absent(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StoreError(f"PutObject {self._key(name)}: {path}: {error.strerror}") from error
        if size > MOST_PARTS * PART:
            raise StoreError(
                f"UploadPart {self._key(name)}: {path} has {size} bytes (expected at most {MOST_PARTS * PART}, which "
                "S3 takes in parts); compact and defragment etcd, or use a file: store"
            )
        if size <= self._largest:
            return self._put(name, path, {"IfNoneMatch": "*"})
        key = self._key(name)
        return self._tried(f"CompleteMultipartUpload {key}", partial(self._put_parts, key, path), new=True)

    def get_file(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        what = f"GetObject {self._key(name)}"
        try:
            with self._asking(what) as client:
                answer = client.get_object(Bucket=self._bucket, Key=self._key(name))
                made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(made, "wb") as file:
                    for part in answer["Body"].iter_chunks(MIB):
                        file.write(part)
            return True
        except _RefusedError as refused:
            if refused.code == "NoSuchKey":
                return False
            raise self._failed(what, refused) from refused

    def delete(self, name: str) -> None:
        """See ports.BulkStore."""
        key = self._prefix + check_deletable(name)
        try:
            with self._asking(f"DeleteObject {key}") as client:
                client.delete_object(Bucket=self._bucket, Key=key)
        except _RefusedError as refused:
            raise self._failed(f"DeleteObject {key}", refused) from refused

    def _put(self, name: str, content: bytes | Path, condition: Mapping[str, str]) -> bool:
        key = self._key(name)
        once = partial(self._put_once, key, content, condition)
        return self._tried(f"PutObject {key}", once, new="IfMatch" not in condition)

    def _tried(self, what: str, once: Callable[[], None], *, new: bool) -> bool:
        """Write, again and again while others write. False when the condition fails: a new object is there already,
        or one to be replaced is another one or gone."""
        for left in reversed(range(TRIES)):
            try:
                once()
            except _RefusedError as refused:
                if refused.status == 412 or (refused.code == "NoSuchKey" and not new):
                    return False
                if refused.status != 409:
                    raise self._failed(what, refused) from refused
                if left:
                    # Two writers that wait equally long would meet again.
                    time.sleep(random.uniform(0, _LONGEST_PAUSE))
            else:
                return True
        raise StoreConflictError(
            f"{what} in bucket {self._bucket}: S3 answered {TRIES} times that other writes of this object "
            "are under way; the next reconcile tries again"
        )

    def _put_once(self, key: str, content: bytes | Path, condition: Mapping[str, Any]) -> None:
        with self._asking(f"PutObject {key}") as client, _body(content) as body:
            answer = client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ServerSideEncryption="AES256", **condition
            )
        self._check_encrypted(f"PutObject {key}", told=bool(answer.get("ServerSideEncryption")))

    def _put_parts(self, key: str, path: Path) -> None:
        """After a conflict all parts are sent again: S3 takes them for one attempt alone."""
        with self._asking(f"CreateMultipartUpload {key}") as client:
            upload = begin(client, self._bucket, key)
        made = False
        try:
            self._check_encrypted(f"CreateMultipartUpload {key}", told=upload.encrypted)
            with self._asking(f"UploadPart {key}"):
                parts = upload.send(path)
            with self._asking(f"CompleteMultipartUpload {key}"):
                upload.complete(parts)
            made = True
        finally:
            if not made:
                self._abort(upload)

    def _abort(self, upload: Upload) -> None:
        """Abort an upload that came to nothing. The error that ended it is the one to raise."""
        try:
            with self._asking(f"AbortMultipartUpload {upload.key}"):
                upload.abort()
        except (_RefusedError, StoreError) as error:
            # One that was completed, and whose answer was lost, is gone as well.
            log.warning("%s in bucket %s: its parts may stay there: %s", upload.key, self._bucket, error)

    def _check_encrypted(self, what: str, *, told: bool) -> None:
        if not told:
            raise StoreError(
                f"{what} in bucket {self._bucket}: the answer doesn't say that the object is encrypted "
                "(expected x-amz-server-side-encryption); use an S3 that encrypts objects"
            )

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _failed(self, what: str, refused: _RefusedError) -> StoreError:
        advice = _ADVICE.get(refused.code)
        said = f"{what} in bucket {self._bucket}: HTTP {refused.status} {refused.code}"
        return StoreError(said + (f"; {advice}" if advice else ""))

    @contextmanager
    def _asking(self, what: str) -> Iterator[S3Client]:
        """A client. Raises _RefusedError for an error that S3 answers, StoreError when no answer comes."""
        from protokube.awsclient import CALL_ERRORS, ClientError, NotReadyError, client

        try:
            if self._made is None:
                region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _DEFAULT_REGION
                self._made = client("s3", region, imds_v1=self._imds_v1)  # type: ignore[assignment]
            assert self._made is not None
            yield self._made
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise _RefusedError(str(error.response.get("Error", {}).get("Code", "")), status) from error
        except NotReadyError as error:
            self._made = None
            raise StoreError(f"{what} in bucket {self._bucket}: {error}") from error
        except (*CALL_ERRORS, OSError) as error:
            said = " ".join(str(error).split())
            raise StoreError(
                f"{what} in bucket {self._bucket}: {type(error).__name__}: {said}; check the way to the endpoint"
            ) from error
