"""Shelf: the objects that a stream leaves on S3, and how far the stream has come.

Belongs here: names and bodies of those objects. An object holds a stretch of one part of a stream (a partition, a
shard). It is named by the first position in it and put only where there is none of that name, so that of two readers
that are at the same place one wins; it states its last position, where the next one begins. So S3 itself tells what has
landed, whatever died or was lost elsewhere.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.streams import StreamError

DEAD_LETTERS = "dead_letters"
_LAST, _COUNT, _STREAM_ID = "c360-last", "c360-count", "c360-stream-id"
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


@dataclass(frozen=True)
class DeadLetter:
    """An event that cannot be landed: where it stood, why, and its bytes."""

    position: str
    reason: str
    value: bytes | None
    key: bytes | None = None

    def document(self, source: str, stream: str, part: str) -> bytes:
        told = {
            "source": source,
            "stream": stream,
            "part": part,
            "position": self.position,
            "reason": self.reason,
            "value_base64": None if self.value is None else base64.b64encode(self.value).decode(),
            "key_base64": None if self.key is None else base64.b64encode(self.key).decode(),
            "refused_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        return json.dumps(told, separators=(",", ":")).encode()


@dataclass
class Stretch:
    """Events of one part of a stream, in their order, without a gap from `first` to `last`; JSON documents."""

    part: str
    first: str
    last: str
    values: list[bytes] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    size: int = 0

    def add(self, position: str, value: bytes) -> None:
        self.last = position
        self.values.append(value)
        self.size += len(value) + 1

    def refuse(self, letter: DeadLetter) -> None:
        self.last = letter.position
        self.dead.append(letter)
        self.size += len(letter.value or b"") + 1


class Shelf:
    """Where the stretches of one stream lie: `<feed>/<source>/<stream>/<part>/<first position>.json`.

    Positions are numbers of at most `digits` digits; names are filled to that length, so that S3 lists them in order.
    `stream_id`: what tells the stream from a former one of its name, if anything does.
    """

    def __init__(
        self, bucket: Bucket, feed: Feed, dead: Feed, source: str, stream: str, digits: int, stream_id: str = ""
    ) -> None:
        self._stream_id = stream_id
        self._whose = {_STREAM_ID: stream_id} if stream_id else {}
        self._bucket, self._source, self._stream, self._digits = bucket, source, stream, digits
        self._folder = f"{bucket.folder(feed)}{source}/{stream}/"
        self._dead_folder = f"{bucket.folder(dead)}{source}/{stream}/"
        self._name = re.compile(rf"\d{{{digits}}}\.json")

    def put(self, stretch: Stretch) -> bool:
        """Puts the stretch, its dead letters first; False if another reader has put one from the same position."""
        if stretch.dead:
            # Under a name of their own: a broken attempt may leave some twice, and never none. Who reads them tells.
            name = f"{self._filled(stretch.first)}-{self._filled(stretch.last)}.json"
            told = [letter.document(self._source, self._stream, stretch.part) for letter in stretch.dead]
            self._bucket.client.put_object(
                Bucket=self._bucket.name, Key=f"{self._dead_folder}{stretch.part}/{name}", Body=_lines(told)
            )
        try:
            self._bucket.client.put_object(
                Bucket=self._bucket.name,
                Key=self._key(stretch.part, stretch.first),
                Body=_lines(stretch.values),
                IfNoneMatch="*",
                Metadata={_LAST: stretch.last, _COUNT: str(len(stretch.values))} | self._whose,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise
            return self._stated(self._key(stretch.part, stretch.first)) == (stretch.last, len(stretch.values))
        return True

    def last(self, part: str, since: str | None = None) -> str | None:
        """The last position that has landed of the part, if one has; looked for from the position `since` on.

        Raises:
            StreamError: if it is one of another stream of this name, whose positions say nothing of this one's.
        """
        self._check(part)
        more: Any = {"StartAfter": f"{self._folder}{part}/{self._filled(since)[:-1]}"} if since is not None else {}
        pages = self._bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket.name, Prefix=f"{self._folder}{part}/", **more
        )
        newest = None
        for page in pages:
            for found in page.get("Contents", ()):
                if self._name.fullmatch(found["Key"].rsplit("/", 1)[1]):
                    newest = found["Key"]
        if newest is None:
            return None
        # The first one may have been put before the stream's id was known.
        self._look_whose(newest)
        return self._stated(newest)[0]

    def _check(self, part: str) -> None:
        """Whose is what lies there? The first object is asked: all of a folder are of one stream."""
        found = self._bucket.client.list_objects_v2(
            Bucket=self._bucket.name, Prefix=f"{self._folder}{part}/", MaxKeys=1
        )
        for first in found.get("Contents", ()):
            self._look_whose(first["Key"])

    def _look_whose(self, key: str) -> None:
        former = self._bucket.client.head_object(Bucket=self._bucket.name, Key=key)["Metadata"].get(_STREAM_ID)
        if former and self._stream_id and former != self._stream_id:
            raise StreamError(
                f"s3://{self._bucket.name}/{key} is of another {self._source} {self._stream}, {former}, "
                f"which was deleted; the one of that name is {self._stream_id} now, and counts from its beginning. "
                "Say --landed-as NAME to land it beside the former, and not over it"
            )

    def _stated(self, key: str) -> tuple[str, int]:
        metadata = self._bucket.client.head_object(Bucket=self._bucket.name, Key=key)["Metadata"]
        try:
            return metadata[_LAST], int(metadata[_COUNT])
        except (KeyError, ValueError):
            raise StreamError(
                f"s3://{self._bucket.name}/{key} does not say which events it holds ({_LAST}, {_COUNT} in its "
                "metadata): no stream put it there, or it was copied without them; move it away, and start again"
            ) from None

    def _key(self, part: str, first: str) -> str:
        return f"{self._folder}{part}/{self._filled(first)}.json"

    def _filled(self, position: str) -> str:
        if len(position) > self._digits:
            raise StreamError(
                f"{self._source} {self._stream}: position '{position}' has more than {self._digits} digits"
            )
        return position.zfill(self._digits)


def _lines(values: Sequence[bytes]) -> bytes:
    return b"\n".join(values) + b"\n" if values else b""
