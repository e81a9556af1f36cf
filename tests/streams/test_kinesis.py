"""A stream of Kinesis as it lands: each record once, whatever dies, splits, merges or runs beside it."""

from __future__ import annotations

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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from c360_assets import local
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT, Settings
from c360_assets.streams import StreamError
from c360_assets.streams.decoding import json_object
from c360_assets.streams.holding import Limits, Progress
from c360_assets.streams.kinesis import DIGITS, SOURCE, KinesisLanding
from c360_assets.streams.shelf import Shelf, Stretch
from tests.parts import minutes_long
from tests.streams.test_kafka import _Away, events, landed, values_of

ALL = 2**128 - 1
Land = Callable[..., Progress]


@pytest.fixture
def client(s3_endpoint: str) -> Any:
    return boto3.client(
        "kinesis", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )


@pytest.fixture
def stream(client: Any) -> str:
    """A stream of two shards."""
    name = f"s-{uuid.uuid4().hex[:10]}"
    client.create_stream(StreamName=name, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=name)
    return name


@pytest.fixture
def shelf(bucket: Bucket, feeds: dict[str, Feed], stream: str) -> Shelf:
    return Shelf(bucket, feeds["clickstream"], feeds["dead_letters"], SOURCE, stream, DIGITS)


@pytest.fixture
def land(client: Any, stream: str, shelf: Shelf) -> Land:
    def run(idle: float = 1.0, stop: Callable[[], bool] = lambda: False, **more: Any) -> Progress:
        return KinesisLanding(
            more.pop("client", client), stream, more.pop("shelf", shelf), json_object,
            more.pop("limits", Limits(seconds=0.2)), print,
        ).run(stop, idle)  # fmt: skip

    return run


def send(client: Any, stream: str, values: list[bytes]) -> list[bytes]:
    for start in range(0, len(values), 500):
        some = [{"Data": value, "PartitionKey": str(n)} for n, value in enumerate(values[start : start + 500], start)]
        assert client.put_records(StreamName=stream, Records=some)["FailedRecordCount"] == 0
    return values


def test_a_stream_lands_in_objects_that_carry_stream_shard_and_sequence(
    land: Land, client: Any, stream: str, bucket: Bucket
) -> None:
    sent = send(client, stream, events(900))
    assert land(limits=Limits(seconds=60, events=100)).events == 900
    found = values_of(bucket)
    assert landed(bucket) == Counter(sent) and len(found) >= 9
    shards = {key.removeprefix(f"kinesis/{stream}/").split("/")[0] for key in found}
    assert shards == {"shardId-000000000000", "shardId-000000000001"}
    assert all(len(key.rsplit("/", 1)[1]) == DIGITS + len(".json") for key in found)
    # Whoever comes next begins behind what lies on S3, and has no other memory.
    assert land().events == 0
    more = send(client, stream, events(40, "f"))
    assert land().events == 40
    assert landed(bucket) == Counter([*sent, *more])


def test_two_consumers_of_one_stream_land_each_record_once(
    land: Land, client: Any, stream: str, bucket: Bucket, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = threading.Barrier(2)

    class Late(Shelf):
        """Puts its first stretch when the other has one of the same shard in its hands too."""

        def put(self, stretch: Stretch) -> bool:
            if stretch.part.endswith("0") and "has_begun" not in self.__dict__:
                self.has_begun = True
                begun.wait(20)
            return super().put(stretch)

    def late() -> Late:
        made = Late.__new__(Late)
        made.__dict__.update(shelf.__dict__)
        return made

    sent = send(client, stream, events(300))
    done: list[Progress] = []
    limits = (Limits(seconds=60, events=40), Limits(seconds=60, events=70))
    readers = [
        threading.Thread(target=lambda each=each: done.append(land(2, shelf=late(), limits=each)))  # type: ignore[misc]
        for each in limits
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert len(done) == 2 and "another consumer has landed what follows" in capsys.readouterr().out
    assert landed(bucket) == Counter(sent)
    # Both may say of one stretch that it is there: who puts what already lies there has landed it as well.
    assert sum(each.events for each in done) >= 300


class _Split:
    """Two real streams as one whose first shards were split: they end, and the others are their children.

    Kinesis keeps a closed shard until its records are too old; the service that stands in for it here drops it at once.
    """

    def __init__(self, client: Any, parent: str, child: str) -> None:
        self._client, self._parent, self._child = client, parent, child
        self._whose: dict[str, str] = {}
        self.read: list[str] = []

    def list_shards(self, **_: Any) -> Any:
        old = self._client.list_shards(StreamName=self._parent)["Shards"]
        new = self._client.list_shards(StreamName=self._child)["Shards"]
        named = [each | {"ShardId": f"new-{each['ShardId']}", "ParentShardId": old[0]["ShardId"]} for each in new]
        # Two became one: the last has two parents.
        named[-1]["AdjacentParentShardId"] = old[1]["ShardId"]
        return {"Shards": [*named, *old]}

    def get_shard_iterator(self, *, ShardId: str, StreamName: str, **where: Any) -> Any:
        stream = self._child if ShardId.startswith("new-") else self._parent
        told = self._client.get_shard_iterator(StreamName=stream, ShardId=ShardId.removeprefix("new-"), **where)
        self._whose[told["ShardIterator"]] = ShardId
        return told

    def get_records(self, *, ShardIterator: str, Limit: int) -> Any:
        told = self._client.get_records(ShardIterator=ShardIterator, Limit=min(Limit, 20))
        shard = self._whose[ShardIterator]
        if told["Records"]:
            self.read.append(shard)
        if not told["Records"] and not shard.startswith("new-"):
            del told["NextShardIterator"]
        else:
            self._whose[told["NextShardIterator"]] = shard
        return told


def test_shards_that_were_split_or_merged_are_read_to_their_end_before_their_children(
    land: Land, client: Any, stream: str, bucket: Bucket
) -> None:
    child = f"{stream}-child"
    client.create_stream(StreamName=child, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=child)
    sent = send(client, stream, events(200)) + send(client, child, events(100, "f"))
    split = _Split(client, stream, child)
    assert land(client=split).events == 300
    assert landed(bucket) == Counter(sent)
    parents = [n for n, shard in enumerate(split.read) if not shard.startswith("new-")]
    merged = [n for n, shard in enumerate(split.read) if shard == "new-shardId-000000000001"]
    assert len(parents) > 4 and len(merged) > 1 and max(parents) < min(merged)
    # A later consumer finds them at their end again, and reads on in the children.
    sent += send(client, child, events(30, "g"))
    assert land(client=_Split(client, stream, child)).events == 30
    assert landed(bucket) == Counter(sent)


def test_while_it_runs_the_stream_is_split_and_merged(land: Land, client: Any, stream: str, bucket: Bucket) -> None:
    done, leaves = [], threading.Event()
    reader = threading.Thread(target=lambda: done.append(land(60, leaves.is_set)))
    reader.start()
    sent = send(client, stream, events(100))
    until = time.monotonic() + 20
    while landed(bucket) != Counter(sent) and time.monotonic() < until:
        time.sleep(0.1)
    # All of it is landed by now: here a shard goes with its records when it is split.
    client.split_shard(StreamName=stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(ALL // 4))
    sent += send(client, stream, events(100, "f"))
    while landed(bucket) != Counter(sent) and time.monotonic() < until + 20:
        time.sleep(0.1)
    client.merge_shards(
        StreamName=stream, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003"
    )
    sent += send(client, stream, events(100, "g"))
    while landed(bucket) != Counter(sent) and time.monotonic() < until + 40:
        time.sleep(0.1)
    leaves.set()
    reader.join(30)
    assert landed(bucket) == Counter(sent) and done[0].events == 300


def test_what_cannot_be_landed_is_a_dead_letter(land: Land, client: Any, stream: str, bucket: Bucket) -> None:
    good = events(2)
    send(client, stream, [good[0], b"{broken", good[1]])
    done = land()
    assert (done.events, done.dead) == (2, 1)
    ((letter,),) = values_of(bucket, "dead_letters").values()
    told = json.loads(letter)
    assert (told["source"], told["stream"], told["reason"]) == ("kinesis", stream, "not_json")
    assert landed(bucket) == Counter(good)


def test_while_s3_is_away_nothing_is_lost(
    land: Land, client: Any, stream: str, bucket: Bucket, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Shelf.__new__(Shelf)
    other.__dict__.update(shelf.__dict__ | {"_bucket": replace(bucket, client=_Away(bucket.client, failures=3))})
    sent = send(client, stream, events(30))
    assert land(2, shelf=other).events == 30
    assert landed(bucket) == Counter(sent) and "S3 takes nothing" in capsys.readouterr().out


class _Moody:
    """Kinesis that is too busy now and then, and whose iterators do not live long."""

    def __init__(self, client: Any) -> None:
        self._client, self._luck = client, random.Random(1)
        self.moods: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def moody(**request: Any) -> Any:
            code = self._luck.choice(["ProvisionedThroughputExceededException", "InternalFailure", "", ""])
            if name == "get_records" and self._luck.random() < 0.3:
                code = "ExpiredIteratorException"
            if not code:
                return call(**request)
            self.moods[code] += 1
            status = 500 if code == "InternalFailure" else 400
            raise ClientError(
                {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}, name
            )

        return moody


@minutes_long
def test_a_busy_service_and_iterators_that_expire_are_asked_again(
    land: Land, client: Any, stream: str, bucket: Bucket
) -> None:
    sent = send(client, stream, events(400))
    moody = _Moody(client)
    land(5, client=moody, limits=Limits(seconds=0.2, events=20))
    assert landed(bucket) == Counter(sent) and len(moody.moods) == 3


def test_a_list_of_shards_that_breaks_off_says_nothing_of_those_it_leaves_out(client: Any, shelf: Shelf) -> None:
    """A parent that is not told looks as if it had passed away: its child would be read before it."""
    told = [
        {"Shards": [{"ShardId": "child", "ParentShardId": "parent"}], "NextToken": "more"},
        None,
        {"Shards": [{"ShardId": "child", "ParentShardId": "parent"}], "NextToken": "more"},
        {"Shards": [{"ShardId": "parent"}]},
    ]
    landing = KinesisLanding(client, "s", shelf, json_object, Limits(seconds=1), print)
    landing._asked = lambda call, **more: told.pop(0)  # type: ignore[method-assign]
    landing._list()
    assert not landing._shards
    landing._list()
    assert list(landing._shards) == ["parent"]


@minutes_long
def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The generator's own sink at the one end, the command at the other."""
    settings = Settings.load({"C360_HOME": str(tmp_path / "home")})
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("C360_", "AWS_"))}
    with local.embedded_s3(settings) as endpoint:
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        kinesis = local.aws_client(settings, "kinesis")
        kinesis.create_stream(StreamName="clicks", ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName="clicks")
        generator = subprocess.Popen(
            [sys.executable, "-m", "generator", "clickstream_live", "--out", "kinesis://clicks", "--rate", "200",
             "--customers", "50"],
            cwd=PROJECT, env=environment | {"AWS_ENDPOINT_URL": endpoint} | local.embedded_environment(),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

        def start(*more: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [Path(sys.executable).with_name("c360"), "stream", "kinesis", "--stream", "clicks",
                 "--batch-seconds", "0.2", *more],
                env=environment | {"C360_HOME": str(settings.home)}, stdout=subprocess.PIPE, text=True,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip

        luck = random.Random(3)
        for _ in range(3):
            before = len(values_of(bucket))
            process = start()
            until = time.monotonic() + 60
            while len(values_of(bucket)) <= before + 3 and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(luck.random())
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert len(values_of(bucket)) > before + 3
        generator.send_signal(signal.SIGTERM)
        told = generator.communicate(timeout=60)[0].split()
        last = start("--idle", "3")
        out, _ = last.communicate(timeout=120)
        assert last.returncode == 0, out
        found = landed(bucket)
        assert found.total() == int(told[1]) > 300 and set(found.values()) == {1}


def test_a_stream_that_is_not_there_is_an_error_that_names_it(client: Any, shelf: Shelf) -> None:
    with pytest.raises(StreamError, match=r"no-such.*ResourceNotFound"):
        KinesisLanding(client, "no-such", shelf, json_object).run(lambda: False, 3)


def test_objects_that_others_lay_into_its_folder_are_told_apart(
    land: Land, client: Any, stream: str, bucket: Bucket
) -> None:
    sent = send(client, stream, events(20))
    land()
    folder = f"stream_data/clickstream/kinesis/{stream}/shardId-000000000000/"
    bucket.client.put_object(Bucket=bucket.name, Key=f"{folder}zz-notes.json", Body=b"")
    assert land().events == 0
    assert landed(bucket) == Counter(sent)
    # One of our names that does not say what it holds may be anything.
    bucket.client.put_object(Bucket=bucket.name, Key=f"{folder}{'9' * DIGITS}.json", Body=b"")
    with pytest.raises(StreamError, match=r"9\.json does not say which events it holds .* move it away"):
        land()
