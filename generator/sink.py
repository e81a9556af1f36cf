"""Where generated objects go: a folder, or S3 as boto3's own settings describe it (AWS_ENDPOINT_URL, ...)."""

from __future__ import annotations

import os
from datetime import UTC
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from generator.objects import GeneratedObject


class SinkError(Exception):
    """An object could not be written, with the reason."""


class Sink(Protocol):
    """Takes objects in the order of sending."""

    def put(self, sent: GeneratedObject) -> None:
        """Writes one object, over whatever had its name."""


class FolderSink:
    """Objects as files below a folder. A file shows up whole, with its own time as its mtime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, sent: GeneratedObject) -> None:
        """Writes beside the target first, and moves it into place."""
        target = self.folder / sent.name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(sent.body)
        modified = sent.modified.replace(tzinfo=UTC).timestamp()
        os.utime(part, (modified, modified))
        part.replace(target)


class S3Sink:
    """Objects below a prefix of a bucket, the file's own time as the metadata `mtime`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        # Imported here, as a run into a folder need not wait for it.
        errors = import_module("botocore.exceptions")
        self._errors = (errors.BotoCoreError, errors.ClientError)
        try:
            self._client: Any = import_module("boto3").client("s3")
        except self._errors as failure:
            raise SinkError(str(failure)) from failure

    def put(self, sent: GeneratedObject) -> None:
        """One PUT."""
        try:
            self._client.put_object(
                Bucket=self.bucket,
                Key=f"{self.prefix}/{sent.name}" if self.prefix else sent.name,
                Body=sent.body,
                Metadata={"mtime": f"{sent.modified.isoformat()}Z"},
            )
        except self._errors as failure:
            raise SinkError(str(failure)) from failure


def open_sink(out: str) -> Sink:
    """The sink of `s3://bucket/prefix` or of a folder's path."""
    if not out.startswith("s3://"):
        return FolderSink(Path(out))
    bucket, _, prefix = out.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{out!r} names no bucket: s3://BUCKET/PREFIX")
    return S3Sink(bucket, prefix)
