"""What S3 tells a queue of its objects, over a real S3 and a real queue: twice, in any order, oddly named, or not at all."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from c360_assets.landing import Bucket
from c360_assets.object_events import ObjectEvents

Queue = tuple[Any, str, ObjectEvents]


@pytest.fixture
def queue(bucket: Bucket, s3_endpoint: str) -> Queue:
    client = boto3.client(
        "sqs", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    url = client.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
    bucket.client.put_bucket_notification_configuration(Bucket=bucket.name, NotificationConfiguration=told)
    return client, url, ObjectEvents(client, url, bucket.name)


def left(queue: Queue) -> int:
    told = queue[0].get_queue_attributes(
        QueueUrl=queue[1], AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    )
    return sum(int(value) for value in told["Attributes"].values())


def test_objects_are_told_by_their_real_names_with_etag_and_size(queue: Queue, bucket: Bucket) -> None:
    names = ["plain.csv", "with blank+plus.csv", "ümläut/%41 & more.csv"]
    etags = {}
    for name in names:
        etags[name] = bucket.client.put_object(Bucket=bucket.name, Key=name, Body=name.encode())["ETag"].strip('"')
    arrived = queue[2].receive(1)
    assert {a.listed.key: a.listed.etag for a in arrived} == etags
    assert {a.listed.key: a.listed.size for a in arrived} == {name: len(name.encode()) for name in names}
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(timedelta(0) <= now - a.listed.last_modified < timedelta(seconds=30) for a in arrived)


def test_what_is_not_done_is_told_again_and_what_is_done_is_not(queue: Queue, bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="a", Body=b"1")
    (first,) = queue[2].receive(1)
    again = queue[2].receive(3)
    assert [a.listed for a in again] == [first.listed]
    queue[2].done(again)
    assert queue[2].receive(2) == [] and left(queue) == 0


def test_what_is_no_new_object_is_taken_away_and_what_nobody_can_read_is_left(queue: Queue, bucket: Bucket) -> None:
    client, url, events = queue
    for body in (
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket.name},
        {"Records": [{"eventName": "ObjectCreated:Put", "eventTime": "2026-03-01T00:00:00.000Z",
                      "s3": {"bucket": {"name": "another"}, "object": {"key": "x", "eTag": "e", "size": 1}}}]},
    ):  # fmt: skip
        client.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    bucket.client.put_object(Bucket=bucket.name, Key="gone", Body=b"1")
    bucket.client.delete_object(Bucket=bucket.name, Key="gone")
    bucket.client.put_object(Bucket=bucket.name, Key="a folder/", Body=b"")
    client.send_message(QueueUrl=url, MessageBody="no JSON at all")
    client.send_message(QueueUrl=url, MessageBody='{"Records": [{"eventName": "ObjectCreated:Put"}]}')
    arrived = events.receive(1)
    assert {a.listed.key for a in arrived} == {"gone"}
    events.done(arrived)
    assert events.unreadable == 2 and left(queue) == 2


def test_the_forms_of_sns_and_eventbridge_are_read_too(queue: Queue, bucket: Bucket) -> None:
    client, url, events = queue
    record = {"eventName": "ObjectCreated:CompleteMultipartUpload", "eventTime": "2026-03-01T10:00:00.123Z",
              "s3": {"bucket": {"name": bucket.name}, "object": {"key": "a+b%2Bc", "eTag": "e1", "size": 7}}}  # fmt: skip
    sns = {"TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": json.dumps({"Records": [record]})}
    bridge = {"detail-type": "Object Created", "time": "2026-03-01T10:00:01Z",
              "detail": {"bucket": {"name": bucket.name}, "object": {"key": "plain key", "etag": "e2", "size": 8}}}  # fmt: skip
    for body in (sns, bridge):
        client.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    told = {a.listed.key: (a.listed.etag, a.listed.size, a.listed.last_modified) for a in events.receive(1)}
    assert told == {
        "a b+c": ("e1", 7, datetime(2026, 3, 1, 10, 0, 0, 123000)),
        "plain key": ("e2", 8, datetime(2026, 3, 1, 10, 0, 1)),
    }
