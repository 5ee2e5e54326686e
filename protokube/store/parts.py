"""An object that is too large for one request: sent to S3 in parts, and made by the last request alone.

Until CompleteMultipartUpload there is no object. That request has the condition `If-None-Match: *`, like any other
that makes one (userguide, "How to prevent object overwrites with conditional writes").
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from protokube.core.model import MIB

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART = 16 * MIB
"""Bytes of a part, which is held in memory. S3 takes 10,000 parts, so that an object may have 156 GiB."""

MOST_PARTS = 10_000


class Upload(Struct, frozen=True):
    """An upload that has begun. Unless it ends with `complete` or `abort`, the bucket keeps its parts."""

    client: S3Client
    bucket: str
    key: str
    id: str
    encrypted: bool

    def send(self, path: Path) -> list[CompletedPartTypeDef]:
        """Send a file, part by part."""
        parts: list[CompletedPartTypeDef] = []
        with path.open("rb") as file:
            while body := file.read(PART):
                number = len(parts) + 1
                answer = self.client.upload_part(
                    Bucket=self.bucket, Key=self.key, UploadId=self.id, PartNumber=number, Body=body
                )
                parts.append({"ETag": answer["ETag"], "PartNumber": number})
        return parts

    def complete(self, parts: list[CompletedPartTypeDef]) -> None:
        """Make the object, unless there is one."""
        self.client.complete_multipart_upload(
            Bucket=self.bucket,
            Key=self.key,
            UploadId=self.id,
            MultipartUpload={"Parts": parts},
            IfNoneMatch="*",
        )

    def abort(self) -> None:
        """Let the bucket forget the parts."""
        self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.key, UploadId=self.id)


def begin(client: S3Client, bucket: str, key: str) -> Upload:
    """Begin an upload, with encryption asked for."""
    made = client.create_multipart_upload(Bucket=bucket, Key=key, ServerSideEncryption="AES256")
    return Upload(client, bucket, key, made["UploadId"], bool(made.get("ServerSideEncryption")))
