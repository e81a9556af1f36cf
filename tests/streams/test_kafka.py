"""A topic as it lands: each event once, whatever dies, joins, leaves or is lost between."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from c360_assets import local
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.streams import StreamError, broker
from c360_assets.streams.decoding import avro_object, json_object, protobuf_object
from c360_assets.streams.holding import Holding
from c360_assets.streams.kafka import DIGITS, SOURCE, KafkaLanding, Limits, Progress, consumer_of, topic_id
from c360_assets.streams.shelf import Shelf, Stretch
from tests.parts import Platform, minutes_long, settings_at
from tests.streams.conftest import Produce

# A group gives up a dead member after this; the broker lets the first join take half of it.
QUICK = {"session.timeout.ms": "6000"}
Land = Callable[..., Progress]


@pytest.fixture
def shelf(bucket: Bucket, feeds: dict[str, Feed], topic: str) -> Shelf:
    return Shelf(bucket, feeds["clickstream"], feeds["dead_letters"], SOURCE, topic, DIGITS)


@pytest.fixture
def land(kafka: str, topic: str, shelf: Shelf) -> Land:
    """Lands what the topic has, until nothing comes for a while; a group of its own if none is named."""

    def run(group: str = "", idle: float = 1.5, stop: Callable[[], bool] = lambda: False, **more: Any) -> Progress:
        consumer = consumer_of(kafka, group or f"g-{uuid.uuid4().hex[:8]}", QUICK)
        limits = more.pop("limits", Limits(seconds=0.3))
        decode = more.pop("decode", json_object)
        return KafkaLanding(consumer, topic, more.pop("shelf", shelf), decode, limits, print, **more).run(stop, idle)

    return run


def values_of(bucket: Bucket, feed: str = "clickstream") -> dict[str, list[bytes]]:
    """{key below the feed: lines}"""
    prefix = f"{bucket.prefix}/{feed}/"
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=prefix)
    keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    return {
        key.removeprefix(prefix): bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read().splitlines()
        for key in keys
    }


def landed(bucket: Bucket) -> Counter[bytes]:
    return Counter(line for lines in values_of(bucket).values() for line in lines)


def events(count: int, mark: str = "e") -> list[bytes]:
    return [json.dumps({"event_id": f"{mark}{n}", "event_type": "click"}).encode() for n in range(count)]


def test_a_topic_lands_in_objects_that_carry_topic_partition_and_offset(
    land: Land, produce: Produce, bucket: Bucket, topic: str
) -> None:
    produce(sent := events(900))
    done = land(limits=Limits(seconds=60, events=100))
    assert (done.events, done.dead) == (900, 0)
    found = values_of(bucket)
    assert landed(bucket) == Counter(sent)
    for part in range(3):
        mine = [key for key in sorted(found) if key.startswith(f"kafka/{topic}/{part}/")]
        firsts = [int(key.rsplit("/", 1)[1].removesuffix(".json")) for key in mine]
        # Each begins where the one before it ends.
        ends = [first + len(found[key]) for first, key in zip(firsts, mine, strict=True)]
        assert firsts == [0, *ends[:-1]] and ends[-1] == 300


def test_what_is_committed_is_not_read_again_and_what_came_since_is(
    land: Land, produce: Produce, bucket: Bucket
) -> None:
    produce(first := events(30))
    land("one")
    assert land("one").events == 0
    produce(second := events(30, "f"))
    assert land("one").events == 30
    assert landed(bucket) == Counter([*first, *second])


def test_s3_is_believed_where_a_commit_was_lost(land: Land, produce: Produce, bucket: Bucket) -> None:
    produce(sent := events(60))
    land("committed")
    produce(more := events(30, "f"))
    # A group that has committed nothing: as if every commit of the first had been lost.
    assert land("nothing committed").events == 30
    assert landed(bucket) == Counter([*sent, *more])


def test_of_two_readers_of_the_same_offsets_one_lands_them(
    land: Land, produce: Produce, bucket: Bucket, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    """A consumer that the group has given up and that does not know of it is such a reader."""
    begun = threading.Barrier(2)

    class Late(Shelf):
        """Puts its first stretch when the other has one in its hands too."""

        def put(self, stretch: Stretch) -> bool:
            if stretch.first == "0" and stretch.part == "0":
                begun.wait(20)
            return super().put(stretch)

    late = Late.__new__(Late)
    late.__dict__.update(shelf.__dict__)
    produce(sent := events(300))
    done: list[Progress] = []
    limits = (Limits(seconds=60, events=40), Limits(seconds=60, events=70))
    readers = [
        threading.Thread(target=lambda each=each: done.append(land(shelf=late, limits=each, idle=4)))  # type: ignore[misc]
        for each in limits
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert landed(bucket) == Counter(sent)
    assert len(done) == 2 and "another consumer has landed what follows" in capsys.readouterr().out


def test_a_group_shares_the_partitions_and_a_member_that_leaves_gives_them_back(
    land: Land, produce: Produce, bucket: Bucket
) -> None:
    leaves = threading.Event()
    first = threading.Thread(target=lambda: land("shared", 60, leaves.is_set))
    first.start()
    produce(one := events(90))
    time.sleep(5)
    done: list[Progress] = []
    second = threading.Thread(target=lambda: done.append(land("shared", 12)))
    second.start()
    time.sleep(6)
    produce(two := events(90, "f"))
    time.sleep(3)
    leaves.set()
    first.join(30)
    produce(three := events(90, "g"))
    second.join(60)
    assert landed(bucket) == Counter([*one, *two, *three])
    assert done[0].events >= 90


def test_what_cannot_be_landed_is_a_dead_letter_with_its_reason_up_to_the_issue_log(
    land: Land, produce: Produce, bucket: Bucket, topic: str, tmp_path: Path
) -> None:
    from c360_assets.settings import PROJECT

    good = events(4)
    produce([good[0], b"{broken", good[1], None, b"\xff\xfe", good[2], b"[1]", good[3]], partition=1)
    done = land()
    assert (done.events, done.dead) == (4, 4)
    assert landed(bucket) == Counter(good)
    (letters,) = values_of(bucket, "dead_letters").values()
    told = {letter["position"]: letter for letter in map(json.loads, letters)}
    assert {position: letter["reason"] for position, letter in told.items()} == {
        "1": "not_json", "3": "empty", "4": "not_utf8", "6": "no_object",
    }  # fmt: skip
    assert base64.b64decode(told["4"]["value_base64"]) == b"\xff\xfe" and told["3"]["value_base64"] is None
    platform = Platform(settings_at(tmp_path), bucket, project=PROJECT / "dbt").begin()
    platform.load("dead_letters")
    platform.build("--select", "+issue_log", "+accounting", "--exclude-resource-type", "test")
    platform.build("--select", "accounting_adds_up")
    issues = platform.rows(
        "select subject, which, detail from gold.issue_log where issue = 'dead_letter' order by which"
    )
    assert issues == [(f"kafka {topic}", f"1/{p}", told[p]["reason"]) for p in ("1", "3", "4", "6")]


def test_while_s3_is_away_nothing_is_committed_and_nothing_lost(
    land: Land, produce: Produce, bucket: Bucket, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    away = replace(bucket, client=_Away(bucket.client, failures=4))
    other = Shelf.__new__(Shelf)
    other.__dict__.update(shelf.__dict__ | {"_bucket": away})
    produce(sent := events(30))
    assert land(shelf=other, idle=3).events == 30
    assert landed(bucket) == Counter(sent)
    assert "S3 takes nothing" in capsys.readouterr().out


@minutes_long
def test_while_s3_is_away_no_more_is_held_than_an_object_of_each_partition(
    land: Land, produce: Produce, bucket: Bucket, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, held, takes = 200, [0], Holding.take

    def take(self: Holding, *event: Any) -> None:
        takes(self, *event)
        held[0] = max(held[0], sum(len(each.values) for each in self._held.values()))

    monkeypatch.setattr(Holding, "take", take)
    other = Shelf.__new__(Shelf)
    other.__dict__.update(shelf.__dict__ | {"_bucket": replace(bucket, client=_Away(bucket.client, failures=6))})
    produce(sent := events(6_000))
    # What one question to the consumer brings comes on top of what is due, and once more where it went on unasked.
    assert land(shelf=other, idle=3, limits=Limits(seconds=60, events=most)).events == 6_000
    assert landed(bucket) == Counter(sent)
    assert most <= held[0] <= 3 * (most - 1) + 2 * most


class _Away:
    """S3's client, of which the first PUTs are refused as a busy S3 does."""

    def __init__(self, client: Any, failures: int) -> None:
        self._client, self._left = client, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **request: Any) -> Any:
        from botocore.exceptions import ClientError

        if self._left > 0:
            self._left -= 1
            answer: Any = {
                "Error": {"Code": "SlowDown", "Message": "away"},
                "ResponseMetadata": {"HTTPStatusCode": 503},
            }
            raise ClientError(answer, "PutObject")
        return self._client.put_object(**request)


def test_avro_is_landed_as_json(land: Land, produce: Produce, bucket: Bucket, topic: str) -> None:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    registry = SchemaRegistryClient.new_client({"url": "mock://clicks"})
    schema = {
        "type": "record", "name": "click",
        "fields": [{"name": "event_type", "type": "string"}, {"name": "amount", "type": {
            "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}],
    }  # fmt: skip
    write = AvroSerializer(registry, json.dumps(schema))
    from decimal import Decimal

    told = write(
        {"event_type": "purchase", "amount": Decimal("12.50")}, SerializationContext(topic, MessageField.VALUE)
    )
    decode = avro_object(registry, topic)
    assert told is not None and json.loads(decode(told)) == {"event_type": "purchase", "amount": "12.50"}
    with pytest.raises(ValueError, match="not_avro"):
        decode(b"\x00\x00\x00\x00\x09nothing")


def test_protobuf_is_landed_as_json(topic: str, tmp_path: Path) -> None:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    described = descriptor_pb2.FileDescriptorProto(name=f"{topic}.proto", package="shop", syntax="proto3")
    kind = described.message_type.add(name="Click")
    for number, (name, type_) in enumerate({"event_type": 9, "amount_cents": 3}.items(), 1):
        kind.field.add(name=name, number=number, type=type_, label=1)  # type: ignore[arg-type]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)  # type: ignore[no-untyped-call]
    click = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Click"))  # type: ignore[no-untyped-call]
    registry = SchemaRegistryClient.new_client({"url": "mock://protobuf"})
    write = ProtobufSerializer(click, registry, {"use.deprecated.format": False})
    told = write(click(event_type="käse", amount_cents=1250), SerializationContext(topic, MessageField.VALUE))
    descriptors = tmp_path / "clicks.pb"
    descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=[described]).SerializeToString())
    decode = protobuf_object(registry, descriptors, "shop.Click")
    assert told is not None and json.loads(decode(told)) == {"event_type": "käse", "amount_cents": "1250"}
    with pytest.raises(ValueError, match="not_protobuf"):
        decode(b"\x00\x00\x00\x00\x09nothing")
    with pytest.raises(StreamError, match=r"no message 'shop.Clack'; it has: shop.Click"):
        protobuf_object(registry, descriptors, "shop.Clack")
    descriptors.write_bytes(b"\xff no descriptors")
    with pytest.raises(StreamError, match="holds no descriptors"):
        protobuf_object(registry, descriptors, "shop.Click")


@pytest.mark.parametrize("status", [None, 503, 401, 403])
def test_a_registry_that_fails_is_no_fault_of_the_event(topic: str, status: int | None) -> None:
    with registry_that_answers(status) as registry, pytest.raises(StreamError, match="none is lost"):
        avro_object(registry, topic)(b"\x00\x00\x00\x00\x09an event")


def test_a_schema_that_the_registry_does_not_know_is_the_fault_of_the_event(topic: str) -> None:
    with registry_that_answers(404) as registry, pytest.raises(ValueError, match="not_avro: no such schema"):
        avro_object(registry, topic)(b"\x00\x00\x00\x00\x09an event")


def test_an_event_that_could_not_be_told_is_neither_landed_nor_passed_over(
    land: Land, produce: Produce, bucket: Bucket
) -> None:
    def away(value: bytes) -> bytes:
        raise StreamError("the schema registry does not answer")

    produce(sent := events(30))
    with pytest.raises(StreamError, match="does not answer"):
        land("one", decode=away)
    assert values_of(bucket) == {}
    assert land("one").events == 30 and landed(bucket) == Counter(sent)


@contextmanager
def registry_that_answers(status: int | None) -> Iterator[Any]:
    """A client of a registry that answers so, or of none."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 500)
            self.end_headers()
            self.wfile.write(b'{"error_code": 40403, "message": "no such schema"}')

        def log_message(self, *arguments: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SchemaRegistryClient({"url": address, "max.retries": 0})
    if status is not None:
        server.shutdown()
        server.server_close()


def test_whose_a_folder_is_the_newest_object_tells_where_the_first_does_not(
    bucket: Bucket, feeds: dict[str, Feed], topic: str
) -> None:
    """The topic had no id yet, or the broker gave none, when the first was put."""

    def shelf(stream_id: str) -> Shelf:
        return Shelf(bucket, feeds["clickstream"], feeds["dead_letters"], SOURCE, topic, DIGITS, stream_id)

    shelf("").put(Stretch("0", "0", "9", [b"{}"] * 10))
    shelf("one").put(Stretch("0", "10", "19", [b"{}"] * 10))
    assert shelf("one").last("0") == "19"
    with pytest.raises(StreamError, match=r"10\.json is of another kafka .*, one, which was deleted"):
        shelf("two").last("0")


class Consumer:
    """`c360 stream kafka` as a process of its own."""

    def __init__(self, settings: Settings, kafka: str, topic: str, config: Path) -> None:
        self._settings, self._kafka, self._topic, self._config = settings, kafka, topic, config

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_"))}
        environment |= {"C360_HOME": str(self._settings.home), "KAFKA_CONFIG": str(self._config)}
        return subprocess.Popen(
            [Path(sys.executable).with_name("c360"), "stream", "kafka", "--topic", self._topic, "--group", "killed",
             "--bootstrap", self._kafka, "--batch-seconds", "0.2", *more],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@minutes_long
def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    kafka: str, topic: str, produce: Produce, tmp_path: Path
) -> None:
    settings = Settings.load({"C360_HOME": str(tmp_path / "home")})
    config = tmp_path / "kafka.properties"
    config.write_text("# quick\nsession.timeout.ms = 6000\n")
    sent: list[bytes] = []
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        consumer = Consumer(settings, kafka, topic, config)
        luck = random.Random(5)
        for turn in range(3):
            process = consumer.start()
            before, kill_at = len(values_of(bucket)), time.monotonic() + 60
            is_landing = False
            while time.monotonic() < kill_at:
                sent += (some := events(300, f"{turn}-{len(sent)}-"))
                produce(some)
                if not is_landing and len(values_of(bucket)) > before + 3:
                    # It is at work; it dies at any moment of it.
                    is_landing, kill_at = True, time.monotonic() + luck.random()
                time.sleep(0.02)
            assert is_landing
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = consumer.start("--idle", "8")
        out, _ = last.communicate(timeout=120)
        assert last.returncode == 0, out
        assert landed(bucket) == Counter(sent)
        assert len(values_of(bucket)) > 10


@minutes_long
def test_a_topic_that_was_made_anew_is_told_and_lands_under_another_name(
    kafka: str, land: Land, produce: Produce, bucket: Bucket, feeds: dict[str, Feed], topic: str
) -> None:
    def shelf_of(name: str) -> Shelf:
        stream_id = topic_id(kafka, topic, {})
        return Shelf(bucket, feeds["clickstream"], feeds["dead_letters"], SOURCE, name, DIGITS, stream_id)

    produce(sent := events(90))
    land("one", shelf=shelf_of(topic))
    assert land("one", shelf=shelf_of(topic)).events == 0
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(30)
    broker.ensure_topic(kafka, topic, 3)
    # More than has landed of the former: its end would tell nothing.
    produce(anew := events(120, "f"))
    for group in ("one", "another"):
        with pytest.raises(StreamError, match=r"00\.json is of another kafka .*--landed-as"):
            land(group, shelf=shelf_of(topic))
    assert landed(bucket) == Counter(sent)
    assert land("one", shelf=shelf_of("second"), trusts_commits=False).events == 120
    assert landed(bucket) == Counter([*sent, *anew])
    assert land("one", shelf=shelf_of("second"), trusts_commits=False).events == 0
    assert topic_id(kafka, "there-is-none", {}) == ""


def test_a_broker_that_refuses_is_an_error_that_names_the_topic(kafka: str, shelf: Shelf) -> None:
    consumer = consumer_of(kafka, "x", QUICK)
    with pytest.raises(StreamError, match="no-such"):
        KafkaLanding(consumer, "no-such", shelf, json_object, Limits(), print).run(lambda: False, 3)
