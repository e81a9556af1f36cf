"""Commands on the quarantine: what `c360 quarantine` does, over the register. Parsing of arguments is in cli.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from c360_assets import local, output
from c360_assets import quarantine as register
from c360_assets.cli import DONE, USAGE, UsageError, say
from c360_assets.erasure import forgotten_of
from c360_assets.feeds import Feed, find_feed, load_feeds
from c360_assets.quarantine import Choice
from c360_assets.settings import Settings
from c360_assets.warehouse import Warehouse, open_warehouse


def quarantine(options: argparse.Namespace, settings: Settings) -> int:
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    if options.feed:
        find_feed(feeds, options.feed)
    choice = Choice(options.feed, options.key, options.row, options.reason)
    warehouse = open_warehouse(settings, announce=say)
    if options.action in ("list", "show"):
        with warehouse.reading() as session:
            found = register.entries(session, choice, options.limit)
        names = ["feed", "_key", "_row", "stage", "reasons", "refused_at"]
        rows: list[Sequence[object]] = [(e.feed, e.key, e.row, e.stage, list(e.reasons), e.refused_at) for e in found]
        if options.action == "show":
            names, rows = [*names, "raw"], [(*row, e.raw) for row, e in zip(rows, found, strict=True)]
        output.write(names, rows, options.format)
        return DONE
    if choice == Choice() and not options.all:
        say(f"c360 quarantine {options.action}: say which with --feed, --key, --row or --reason, or --all")
        return USAGE
    with warehouse.reading() as session:
        found = register.entries(session, choice)
    if options.action == "release" and options.feed and options.key and not any(e.stage == "guard" for e in found):
        return _release_objects(settings, warehouse, feeds[options.feed], options.key)
    if not found:
        say("nothing in quarantine fits")
        return DONE
    if options.action == "dismiss":
        register.decide(warehouse, found, "dismiss", options.why)
        say(f"{len(found)} refusals dismissed")
        return DONE
    held = [e for e in found if e.stage == "guard"]
    if options.action == "release" and not held:
        say(f"no snapshot is held among the {len(found)} refusals that fit")
        return DONE
    values = _assigned(options.set) if options.action == "fix" else {}
    from c360_assets import runs

    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        if options.action == "fix":
            for key in register.fix(warehouse, local.landing_bucket(settings), feeds, found, values):
                print(key, flush=True)
            return runs.sync(settings, instance, say=say)
        if options.action == "release":
            register.decide(warehouse, held, "release", "")
            say(f"{len(held)} snapshots released")
            return runs.sync(settings, instance, say=say)
        for entry in held:
            say(f"{entry.key} {entry.raw}: not tried again; let it pass with c360 quarantine release")
        bucket = local.landing_bucket(settings)
        forgotten = partial(forgotten_of(settings), bucket)
        replayed = register.replay(warehouse, bucket, feeds, found, settings.spool, forgotten)
        for entry, why in replayed.still_refused:
            say(f"still refused: {entry.key} record {entry.row}: {why}")
        say(f"{replayed.cleaning} rows go through cleaning again, {replayed.read} records could be read after all")
        return runs.sync(settings, instance, say=say)


def _release_objects(settings: Settings, warehouse: Warehouse, feed: Feed, key: str) -> int:
    """Objects that an expectation holds up are no refusals: they are named by their key."""
    released = register.release_objects(warehouse, feed, key)
    if not released:
        say(f"feed {feed.name} has no object {key} that is not released")
        return DONE
    from c360_assets import runs

    for each in released:
        say(f"{each}: taken as it is")
    with local.embedded_s3(settings), local.dagster_instance(settings) as instance:
        return runs.sync(settings, instance, say=say)


def _assigned(texts: Sequence[str]) -> dict[str, str]:
    """{column: value} of COLUMN=VALUE."""
    without = [text for text in texts if not text.partition("=")[1]]
    if without:
        raise UsageError(f"--set: '{without[0]}' is no COLUMN=VALUE")
    return {column.strip(): value for column, _, value in (text.partition("=") for text in texts)}
