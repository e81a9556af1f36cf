"""Landing: objects on S3, and what of them is new.

Belongs here: listing, putting, the ledger's plan of a batch (pure). An object is new when its etag differs from the
newest ledger row of its key; nothing depends on the order of keys or times.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import dagster as dg
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from c360_assets import instants
from c360_assets.feeds import Feed
from c360_assets.warehouse import Session


class LandingError(RuntimeError):
    """S3 cannot be used as asked; the text says what, where and what to do."""


@dataclass(frozen=True, order=True)
class Listed:
    """One object version as S3 lists it. Sorted by age. Size in bytes, time UTC without zone."""

    last_modified: datetime
    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """One bucket and the prefix that is ours in it."""

    client: Any
    name: str
    prefix: str

    def folder(self, feed: Feed) -> str:
        return f"{self.prefix}/{feed.prefix}" if self.prefix else feed.prefix

    def ensure(self) -> None:
        """Makes the bucket if there is none."""
        try:
            self.client.head_bucket(Bucket=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise LandingError(f"bucket '{self.name}' cannot be used: {error}") from None
            self.client.create_bucket(Bucket=self.name)

    def listed(self, feed: Feed) -> Iterator[Listed]:
        """Every object of the feed; folder markers are none."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.folder(feed))
        for page in pages:
            for found in page.get("Contents", ()):
                if not is_marker(found["Key"], found["Size"]):
                    yield Listed(
                        last_modified=instants.utc(found["LastModified"]),
                        key=found["Key"],
                        etag=found["ETag"].strip('"'),
                        size=found["Size"],
                    )

    def put(self, feed: Feed, path: Path) -> tuple[str, str, str]:
        """Puts a file under the feed; returns key, etag and what became of it: new, same or overwritten."""
        key = self.folder(feed) + path.name
        before = self._etag(key)
        mtime = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
        with path.open("rb") as body:
            digest = hashlib.file_digest(body, "md5").hexdigest()
        if before == digest:
            return key, before, "same"
        try:
            self.client.upload_file(str(path), self.name, key, ExtraArgs={"Metadata": {"mtime": mtime}})
        except S3UploadFailedError as error:
            # It hides what S3 said, by which is told whether to try again.
            said = error.__context__
            raise said if isinstance(said, ClientError) else LandingError(str(error)) from error
        after = self._etag(key)
        if after is None:
            raise LandingError(f"s3://{self.name}/{key} is gone right after it was put: is something deleting there?")
        return key, after, "new" if before is None else "same" if before == after else "overwritten"

    def put_text(self, feed: Feed, name: str, text: str, file_time: datetime) -> str:
        """Puts a file that is made here under the feed, with its file time, UTC without zone; returns its key."""
        key = self.folder(feed) + name
        mtime = file_time.replace(tzinfo=UTC).isoformat()
        self.client.put_object(Bucket=self.name, Key=key, Body=text.encode(), Metadata={"mtime": mtime})
        return key

    def _etag(self, key: str) -> str | None:
        try:
            return str(self.client.head_object(Bucket=self.name, Key=key)["ETag"]).strip('"')
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                return None
            raise


def is_marker(key: str, size: int) -> bool:
    """Is it no object of anybody's, but what consoles put where somebody makes a folder?"""
    return key.endswith("/") and size == 0


def plan_batch(listed: Iterable[Listed], known: Mapping[str, str], objects: int, size: int) -> list[Listed]:
    """The next batch: what is new against the ledger, oldest first, at most so many objects and bytes, at least one.

    `known`: {key: etag of its newest ledger row}.
    """
    batch: list[Listed] = []
    total = 0
    # Very many may wait: not all of them are sorted for the few that come first.
    new_ones = (o for o in listed if known.get(o.key) != o.etag)
    for new in heapq.nsmallest(objects, new_ones, key=attrgetter("last_modified", "key", "etag", "size")):
        if batch and total + new.size > size:
            break
        batch.append(new)
        total += new.size
    return batch


def may_pass(error: BaseException) -> bool:
    """Is it worth asking S3 again after this error? A refusal or a missing bucket stays one."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (
            status >= 500 or status in (408, 429) or error.response["Error"]["Code"] in ("SlowDown", "RequestTimeout")
        )
    return isinstance(error, BotoCoreError | LandingError)


def known_etags(session: Session, feed: Feed, keys: Sequence[str] | None = None) -> dict[str, str]:
    """{key: etag of its newest ledger row}, of these keys or of all. What was gone before it was read is not known: it
    may come again."""
    if "staging.object_ledger" not in session.tables():
        return {}  # a process died between making the file and its tables
    some = "" if keys is None else f"and key in ({', '.join('?' * len(keys)) or 'null'})"
    return dict(
        session.rows(
            f"""
            select key, etag from staging.object_ledger
            where feed = ? and status <> 'gone' {some}
            qualify row_number() over (partition by key order by batch desc) = 1
            """,
            [feed.name, *(keys or ())],
        )
    )


def settled(session: Session, feed: Feed, told: Sequence[Listed]) -> dict[str, str]:
    """{key: etag} of the told objects that the ledger is done with: it has them, or something later of the key.

    What was gone when it was to be read is settled too, until the key is told of again.
    """
    if not told or "staging.object_ledger" not in session.tables():
        return {}
    rows = session.rows(
        f"""
        select key, etag, last_modified, status from staging.object_ledger
        where feed = ? and key in ({", ".join("?" * len(told))})
        qualify row_number() over (partition by key order by batch desc) = 1
        """,
        [feed.name, *(each.key for each in told)],
    )
    newest = {key: (etag, modified, status) for key, etag, modified, status in rows}
    found = {}
    for each in told:
        etag, modified, status = newest.get(each.key, (None, each.last_modified, None))
        if modified > each.last_modified or (
            etag == each.etag and (status != "gone" or modified >= each.last_modified)
        ):
            found[each.key] = each.etag
    return found


def landing_specs(feeds: Iterable[Feed]) -> list[dg.AssetSpec]:
    """What lies on S3 as assets that somebody else makes."""
    return [
        dg.AssetSpec(["landing", f.name], group_name="landing", kinds={"s3"}, description=f"Objects under {f.prefix}")
        for f in feeds
    ]


def batch_name(batch: Sequence[Listed]) -> str:
    """Equal for equal objects and contents."""
    return hashlib.sha256("\n".join(f"{o.key} {o.etag}" for o in batch).encode()).hexdigest()[:16]
