"""Commands that bring things to S3 until they are stopped: `c360 stream`, `c360 land --watch`."""

from __future__ import annotations

import argparse
import importlib.util
import re
import signal
from collections.abc import Callable
from pathlib import Path

from c360_assets import local
from c360_assets.cli import DONE, UsageError, say
from c360_assets.drop import DropFolder
from c360_assets.feeds import Feed, find_feed, load_feeds
from c360_assets.settings import Settings
from c360_assets.streams.decoding import Decode, avro_object, json_object, protobuf_object
from c360_assets.streams.holding import Limits, Progress
from c360_assets.streams.shelf import DEAD_LETTERS, Shelf

# Of topics, as Kafka has them; objects are named by it.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def stream(options: argparse.Namespace, settings: Settings) -> int:
    if options.source == "kinesis":
        return kinesis(options, settings)
    if importlib.util.find_spec("confluent_kafka") is None:
        raise UsageError("streams need confluent-kafka, which is not installed: pip install 'c360[streams]'")
    return kafka(options, settings)


def kinesis(options: argparse.Namespace, settings: Settings) -> int:
    """Lands a stream of Kinesis until SIGTERM or Ctrl-C; what is held by then is landed first."""
    from c360_assets.streams.kinesis import DIGITS, SOURCE, KinesisLanding

    feed, dead = _feeds(options, settings)
    stop = _asked_to_stop()
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        landing = KinesisLanding(
            local.aws_client(settings, "kinesis"),
            options.stream,
            Shelf(bucket, feed, dead, SOURCE, options.stream, DIGITS),
            json_object,
            _limits(options),
            say,
        )
        say(f"landing stream {options.stream} as feed {feed.name}; Ctrl-C stops it")
        return _told(landing.run(stop, options.idle))


def kafka(options: argparse.Namespace, settings: Settings) -> int:
    """Lands a topic until SIGTERM or Ctrl-C; what is held by then is landed and committed first."""
    from c360_assets.streams.kafka import DIGITS, SOURCE, KafkaLanding, consumer_of, properties, topic_id

    bootstrap = options.bootstrap or settings.kafka_bootstrap
    if not bootstrap:
        raise UsageError("--bootstrap HOST:PORT, or KAFKA_BOOTSTRAP, has to say where the broker is")
    name = options.landed_as or options.topic
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name of a topic, which has letters, digits and ._- and at most 249 of them")
    more = properties(Path(settings.kafka_config)) if settings.kafka_config else {}
    decode = _decoder(options)
    feed, dead = _feeds(options, settings)
    stop = _asked_to_stop()
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        landing = KafkaLanding(
            consumer_of(bootstrap, options.group, more),
            options.topic,
            Shelf(bucket, feed, dead, SOURCE, name, DIGITS, topic_id(bootstrap, options.topic, more, stop, say)),
            decode,
            _limits(options),
            say,
            skips_lost=options.skip_lost,
            # What the group has committed is of the former topic, if it has.
            trusts_commits=options.landed_as is None,
        )
        say(f"landing topic {options.topic} of {bootstrap} as feed {feed.name}; Ctrl-C stops it")
        return _told(landing.run(stop, options.idle))


def _feeds(options: argparse.Namespace, settings: Settings) -> tuple[Feed, Feed]:
    """The feed that is landed, and the one of what cannot be."""
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    return find_feed(feeds, options.feed), find_feed(feeds, DEAD_LETTERS)


def _limits(options: argparse.Namespace) -> Limits:
    for name in ("batch_seconds", "batch_bytes", "batch_events"):
        if getattr(options, name) <= 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name):g}: has to be more than 0")
    return Limits(options.batch_seconds, options.batch_bytes, options.batch_events)


def _told(done: Progress) -> int:
    print(done)
    return DONE


def watch(options: argparse.Namespace, settings: Settings, feed: Feed) -> int:
    """Lands what is laid into a folder until SIGTERM or Ctrl-C."""
    if not options.watch.is_dir():
        raise UsageError(f"--watch {options.watch}: is no folder")
    if options.settle <= 0:
        raise UsageError(f"--settle {options.settle:g}: has to be more than 0 seconds")
    stop = _asked_to_stop()
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        say(f"watching {options.watch} for feed {feed.name}; Ctrl-C stops it")
        for landed in DropFolder(options.watch, bucket, feed, settle=options.settle, say=say).watch(stop):
            print(*landed, flush=True)
    return DONE


def _decoder(options: argparse.Namespace) -> Decode:
    if options.events == "json":
        return json_object
    if not options.schema_registry:
        raise UsageError(
            f"--events {options.events} needs --schema-registry URL: the events name their schema by a number"
        )
    from confluent_kafka.schema_registry import SchemaRegistryClient

    registry = SchemaRegistryClient({"url": options.schema_registry})
    if options.events == "avro":
        return avro_object(registry, options.topic)
    if not options.descriptors or not options.message:
        raise UsageError(
            "--events protobuf needs --descriptors FILE and --message NAME: bytes do not name their fields"
        )
    return protobuf_object(registry, options.descriptors, options.message)


def _asked_to_stop() -> Callable[[], bool]:
    asked: list[int] = []
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, _: asked.append(number))
    return lambda: bool(asked)
