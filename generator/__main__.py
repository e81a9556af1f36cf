"""`python -m generator FEED`: writes the files of a feed to a folder or to S3. Thin, over the modules."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from generator import clicks, customers, debezium, dms, live, shop, till
from generator.changes import ChangeFaults, ChangeSpec
from generator.clicks import CLICK_MIX, ClickFaults, ClickSpec
from generator.customers import CustomerSpec
from generator.debezium import CONNECTORS, DEBEZIUM_MIX, TIMES, DebeziumSpec
from generator.dms import DMS_MIX, DmsFaults, DmsSpec
from generator.faults import MIX, Faults, FileFaults
from generator.objects import GeneratedObject, Run
from generator.shop import SHOP_MIX, ShopFaults, ShopSpec
from generator.sink import Sink, SinkError, open_sink
from generator.till import TILL_MIX, TillFaults, TillSpec
from generator.values import instant

_Shares = TypeVar("_Shares", bound=FileFaults)

EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 64, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 done, 1 error, 64 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    feed: argparse.ArgumentParser = options.parser
    try:
        try:
            if options.objects is None:
                return _live(options)
            objects, sink = options.objects(options), open_sink(options.out)
        except ValueError as wrong:
            feed.error(str(wrong))
        print(_send(objects, sink, options.rate))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (OSError, SinkError) as failure:
        print(f"{feed.prog}: error: cannot write to {options.out}: {failure}", file=sys.stderr)
        return EXIT_ERROR
    return EXIT_DONE


def _send(objects: Iterable[GeneratedObject], sink: Sink, rate: float | None) -> str:
    """Puts the objects, at most `rate` a second, and says what was sent."""
    count = refused = unreadable = size = 0
    began = time.monotonic()
    for count, sent in enumerate(objects, start=1):
        if rate:
            time.sleep(max(0.0, began + (count - 1) / rate - time.monotonic()))
        sink.put(sent)
        refused += len(sent.refused)
        unreadable += sent.unreadable
        size += len(sent.body)
        if sys.stderr.isatty():
            print(f"\r{count} files, {size / 1e6:.1f} MB, last {sent.name}\033[K", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return f"sent {count} files, {size} bytes; to be refused: {refused} rows, {unreadable} whole files"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m generator", description="Makes the files of a feed, seeded, clean or with faults.")
    feeds = parser.add_subparsers(metavar="FEED", required=True)
    about = "Customer files, each named by its instant: inserts, then people who move, marry and change address."
    _add_customers(feeds.add_parser("customers", help="customer files named by their instant", description=about))
    about = (
        "Changes of customers in Debezium's envelopes, JSON lines: the snapshot first, then inserts, updates, deletes."
    )
    _add_debezium(feeds.add_parser("customers_debezium", help="changes of customers, by Debezium", description=about))
    about = "Changes of customers as AWS DMS writes them, CSV: a full load, then inserts, updates, deletes."
    _add_dms(feeds.add_parser("customers_dms", help="changes of customers, by AWS DMS", description=about))
    about = "Receipts of tills in files as Firehose writes them: JSON objects one after another without line breaks."
    _add_pos(feeds.add_parser("pos", help="receipts of tills, as JSON", description=about))
    about = (
        "The shop's feeds together: categories, products, orders, items, transactions, tickets and stock counts, CSV."
    )
    _add_shop(feeds.add_parser("shop", help="the shop's seven feeds, as CSV", description=about))
    about = "What visitors do on the shop's pages, JSON lines by the hour: looking, buying, logging in, coming back."
    _add_clicks(feeds.add_parser("clickstream", help="clicks on the shop's pages, as JSON lines", description=about))
    about = "Clicks of now at a set rate, until Ctrl-C or for so many seconds; ends by saying what was sent."
    _add_live(feeds.add_parser("clickstream_live", help="clicks as they happen, to a broker or S3", description=about))
    return parser


def _add_common(parser: argparse.ArgumentParser, default: Run) -> None:
    """What every feed has."""
    parser.add_argument("--out", required=True, metavar="DIR|s3://BUCKET/PREFIX", help="where the files go")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal bytes (%(default)s)")
    parser.add_argument("--rate", type=_rate, metavar="FILES_PER_SECOND", help="send no faster than this")
    parser.add_argument(
        "--start", type=_start, default=datetime(2026, 1, 1), help="the first instant (2026-01-01T00:00:00Z)"
    )
    parser.add_argument("--days", type=float, default=default.days, help="how long the run lasts (%(default)g)")
    parser.add_argument(
        "--interval", type=int, default=default.interval, metavar="SECONDS", help="a file every (%(default)s)"
    )


def _run(options: argparse.Namespace) -> dict[str, Any]:
    return {each.name: getattr(options, each.name) for each in fields(Run)}


def _add_faults(parser: argparse.ArgumentParser, mix: FileFaults, of: str) -> None:
    faults = parser.add_argument_group("faults", f"shares from 0 to 1 of the {of}; none unless asked for")
    faults.add_argument("--faults", action="store_true", help="some of everything; single shares change the mix")
    for each in fields(mix):
        mixed = getattr(mix, each.name)
        name = f"--{each.name.replace('_', '-')}"
        faults.add_argument(name, type=float, metavar="SHARE", help=f"{each.metadata['help']} ({mixed:g} in the mix)")


def _faults(options: argparse.Namespace, none: _Shares, mix: _Shares) -> _Shares:
    asked = {each.name: getattr(options, each.name) for each in fields(none)}
    return replace(mix if options.faults else none, **{n: share for n, share in asked.items() if share is not None})


def _add_size(parser: argparse.ArgumentParser, default: CustomerSpec | ChangeSpec) -> None:
    parser.add_argument("--customers", type=int, default=default.customers, help="how many there are (%(default)s)")
    parser.add_argument(
        "--rows-per-file", type=int, default=default.rows_per_file, metavar="ROWS", help="(%(default)s)"
    )


def _size(options: argparse.Namespace) -> dict[str, Any]:
    return {"customers": options.customers, "rows_per_file": options.rows_per_file, **_run(options)}


def _add_customers(parser: argparse.ArgumentParser) -> None:
    default = CustomerSpec()
    _add_common(parser, default)
    _add_size(parser, default)
    _add_faults(parser, MIX, "files or rows")
    parser.set_defaults(parser=parser, objects=_customers)


def _customers(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    return customers.generate(
        CustomerSpec(
            faults=_faults(options, Faults(), MIX),
            **_size(options),
        )
    )


def _add_changes(parser: argparse.ArgumentParser, default: ChangeSpec) -> None:
    _add_common(parser, default)
    _add_size(parser, default)
    parser.add_argument(
        "--deletes", type=float, default=default.deletes, metavar="SHARE", help="changes that delete (%(default)g)"
    )


def _add_debezium(parser: argparse.ArgumentParser) -> None:
    default = DebeziumSpec()
    _add_changes(parser, default)
    parser.add_argument("--connector", choices=CONNECTORS, default=default.connector, help="(%(default)s)")
    parser.add_argument("--wrapped", action="store_true", help="envelopes as {schema, payload}")
    parser.add_argument(
        "--times", choices=TIMES, default=default.times, help="the finest unit of times of the source (%(default)s)"
    )
    parser.add_argument("--timed-load", action="store_true", help="the snapshot states times of the source too")
    parser.add_argument("--truncate", action="store_true", help="empty the table once, with the file in the middle")
    _add_faults(parser, DEBEZIUM_MIX, "files or rows")
    parser.set_defaults(parser=parser, objects=_debezium)


def _debezium(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    return debezium.generate(
        DebeziumSpec(
            deletes=options.deletes,
            connector=options.connector,
            wrapped=options.wrapped,
            times=options.times,
            timed_load=options.timed_load,
            truncate=options.truncate,
            faults=_faults(options, ChangeFaults(), DEBEZIUM_MIX),
            **_size(options),
        )
    )


def _add_dms(parser: argparse.ArgumentParser) -> None:
    _add_changes(parser, DmsSpec())
    _add_faults(parser, DMS_MIX, "files or rows")
    parser.set_defaults(parser=parser, objects=_dms)


def _dms(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    faults = _faults(options, DmsFaults(), DMS_MIX)
    return dms.generate(DmsSpec(deletes=options.deletes, faults=faults, **_size(options)))


def _add_pos(parser: argparse.ArgumentParser) -> None:
    default = TillSpec()
    _add_common(parser, default)
    parser.add_argument("--stores", type=int, default=default.stores, help="how many there are (%(default)s)")
    parser.add_argument(
        "--receipts-per-object", type=int, default=default.receipts_per_object, metavar="COUNT", help="(%(default)s)"
    )
    parser.add_argument(
        "--zipped", type=float, default=default.zipped, metavar="SHARE", help="files in gzip (%(default)g)"
    )
    parser.add_argument(
        "--foreign", type=float, default=default.foreign, metavar="SHARE", help="stores not in dollars (%(default)g)"
    )
    _add_faults(parser, TILL_MIX, "files, receipts or lines")
    parser.set_defaults(parser=parser, objects=_pos)


def _pos(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    return till.generate(
        TillSpec(
            stores=options.stores,
            receipts_per_object=options.receipts_per_object,
            zipped=options.zipped,
            foreign=options.foreign,
            faults=_faults(options, TillFaults(), TILL_MIX),
            **_run(options),
        )
    )


def _add_shop_size(parser: argparse.ArgumentParser, default: ShopSpec | ClickSpec) -> None:
    parser.add_argument("--customers", type=int, default=default.customers, help="how many there are (%(default)s)")
    parser.add_argument("--products", type=int, default=default.products, help="how many there are (%(default)s)")


def _add_shop(parser: argparse.ArgumentParser) -> None:
    default = ShopSpec()
    _add_common(parser, default)
    _add_shop_size(parser, default)
    parser.add_argument(
        "--orders-per-file", type=int, default=default.orders_per_file, metavar="COUNT", help="(%(default)s)"
    )
    _add_faults(parser, SHOP_MIX, "files, orders or items")
    parser.set_defaults(parser=parser, objects=_shop)


def _shop(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    return shop.generate(
        ShopSpec(
            customers=options.customers,
            products=options.products,
            orders_per_file=options.orders_per_file,
            faults=_faults(options, ShopFaults(), SHOP_MIX),
            **_run(options),
        )
    )


def _add_clicks(parser: argparse.ArgumentParser) -> None:
    default = ClickSpec()
    _add_common(parser, default)
    _add_shop_size(parser, default)
    parser.add_argument(
        "--events-per-file", type=int, default=default.events_per_file, metavar="COUNT", help="(%(default)s)"
    )
    _add_faults(parser, CLICK_MIX, "files or events")
    parser.set_defaults(parser=parser, objects=_clicks)


def _clicks(options: argparse.Namespace) -> Iterable[GeneratedObject]:
    return clicks.generate(
        ClickSpec(
            customers=options.customers,
            products=options.products,
            events_per_file=options.events_per_file,
            faults=_faults(options, ClickFaults(), CLICK_MIX),
            **_run(options),
        )
    )


def _add_live(parser: argparse.ArgumentParser) -> None:
    default = ClickSpec()
    places = "kafka://HOST:PORT/TOPIC|kinesis://STREAM|s3://BUCKET/PREFIX|DIR"
    parser.add_argument("--out", required=True, metavar=places, help="where the events go")
    parser.add_argument("--rate", type=_rate, default=100.0, metavar="EVENTS_PER_SECOND", help="(100)")
    parser.add_argument("--seconds", type=float, help="how long; until Ctrl-C if not given")
    _add_shop_size(parser, default)
    parser.set_defaults(parser=parser, objects=None)


def _live(options: argparse.Namespace) -> int:
    asked: list[int] = []
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, _: asked.append(number))
    visitors = clicks.Visitors(options.customers, options.products, time.time_ns())
    sent = live.send(visitors, live.open_outlet(options.out), options.rate, options.seconds, lambda: bool(asked))
    print(f"sent {sent.events} events, {sent.purchases} purchases, revenue {sent.revenue}")
    return EXIT_DONE


def _rate(text: str) -> float:
    rate = float(text)
    if not rate > 0:
        raise argparse.ArgumentTypeError(f"{text} files per second: has to be more than 0")
    return rate


def _start(text: str) -> datetime:
    start = instant(text)
    if start is None or start.microsecond:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant in whole seconds like 2026-01-01T00:00:00Z")
    return start


if __name__ == "__main__":
    sys.exit(main())
