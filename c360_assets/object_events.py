"""Object events: what S3 tells a queue (SQS) of new objects, so that nobody has to list them.

Belongs here: reading the queue. Events may come twice, in any order, or never: they say where to look, and the ledger
says what is new. What they missed is found by listing now and then. A message is deleted only when its object is
loaded; one that cannot be read is left to the queue's own dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from c360_assets import instants
from c360_assets.landing import Listed, is_marker

_AT_ONCE = 10  # of SQS


@dataclass(frozen=True)
class Arrival:
    """An object as its event has it, and the message to delete when it is loaded. `listed.last_modified` is to the
    millisecond here."""

    listed: Listed
    handle: str


class ObjectEvents:
    """The queue of one bucket."""

    def __init__(self, client: Any, queue_url: str, bucket: str) -> None:
        self._client, self._url, self._bucket = client, queue_url, bucket
        self.unreadable = 0

    def receive(self, seconds: int, most: int = 500) -> list[Arrival]:
        """What has arrived, at most about so many; waits for the first for at most so many whole seconds, up to 20."""
        found: list[Arrival] = []
        while len(found) < most:
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=0 if found else seconds
            )
            messages = answer.get("Messages", [])
            for message in messages:
                found += self._arrivals(message)
            if len(messages) < _AT_ONCE:
                break
        return found

    def done(self, arrivals: Iterable[Arrival]) -> None:
        """Their objects are loaded, or were before."""
        handles = list(dict.fromkeys(each.handle for each in arrivals))
        for start in range(0, len(handles), _AT_ONCE):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles[start : start + _AT_ONCE])
            ]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _arrivals(self, message: Mapping[str, Any]) -> list[Arrival]:
        try:
            body = json.loads(message["Body"])
            told = [each for each in _created(body, self._bucket) if not is_marker(each.key, each.size)]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unreadable += 1
            return []
        if not told:
            # The test event that S3 sends first, an object that was deleted, another bucket's, a folder's marker.
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [Arrival(listed, message["ReceiptHandle"]) for listed in told]


def _created(body: Mapping[str, Any], bucket: str) -> Iterator[Listed]:
    """The objects that a message says were created: S3's own form, in SNS's envelope too, or EventBridge's."""
    if "Message" in body and "TopicArn" in body:
        yield from _created(json.loads(body["Message"]), bucket)
        return
    if body.get("Event") == "s3:TestEvent":
        return
    if "detail" in body:
        detail = body["detail"]
        if body["detail-type"] == "Object Created" and detail["bucket"]["name"] == bucket:
            told = detail["object"]
            yield Listed(instants.read(body["time"]), told["key"], told["etag"].strip('"'), int(told["size"]))
        return
    for record in body["Records"]:
        if (
            record["eventName"].removeprefix("s3:").startswith("ObjectCreated")
            and record["s3"]["bucket"]["name"] == bucket
        ):
            told = record["s3"]["object"]
            at = instants.read(record["eventTime"])
            yield Listed(at, unquote_plus(told["key"]), told["eTag"].strip('"'), int(told["size"]))
