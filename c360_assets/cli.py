"""The c360 command: thin, over the modules. Results on stdout, everything else on stderr.

Exit codes: 0 done, 1 error, 2 a blocking check failed, 64 wrong usage. No traceback reaches a user.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from c360_assets.settings import Settings, SettingsError

DONE, ERROR, BLOCKED, USAGE = 0, 1, 2, 64


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE)


class UsageError(ValueError):
    """An argument cannot be what it says; the text names it, its value and the remedy."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.load()
    except SettingsError as error:
        say(f"c360: {error}")
        return USAGE
    # Imported here: wrong usage is told at once, not after seconds of imports.
    from c360_assets import commands

    command: Callable[[argparse.Namespace, Settings], int] = getattr(commands, options.command)
    return commands.guarded(command, options, settings)


def _audit_arguments(audit: argparse.ArgumentParser) -> None:
    audit.add_argument("--history", required=True, metavar="TABLE", help="schema.table with the versions")
    audit.add_argument("--key", required=True, metavar="COLUMNS", help="what tells one thing from another: customer_id")
    audit.add_argument("--log", metavar="TABLE", help="schema.table with the changes that the history was made of")
    audit.add_argument("--database", type=Path, metavar="FILE", help="a DuckDB file, instead of the warehouse")
    for name, text in (
        ("valid-from", "column with the start of a version"),
        ("valid-to", "column with its end"),
        ("open-end", "the text that means open there, besides null: 9999-12-31"),
        ("end-inclusive", "the unit in which the end is still part of the version: day, second, microsecond"),
        ("is-current", "column that says whether a version is open"),
        ("deleted", "column that says whether a version stands for a delete"),
        ("attributes", "columns to compare; all that the history has, if not given"),
        ("ignore", "columns to leave out"),
        ("event-time", "of the log: column with the instant of a change"),
        ("op", "of the log: column with the operation"),
        ("delete-codes", "of the log: what means a delete there: D,delete"),
        ("position", "of the log: column that orders changes of one instant"),
        ("arrived", "of the log: column with the time at which a change became known"),
        ("log-key", "of the log: its key columns, where they are called otherwise"),
    ):
        audit.add_argument(f"--{name}", metavar="X", help=text)
    audit.add_argument("--limit", type=int, help="how many faults of each kind are shown (20)")
    audit.add_argument("--format", choices=("table", "csv", "json"), default="table")


def _snowflake_arguments(snowflake: argparse.ArgumentParser) -> None:
    actions = snowflake.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "Make what is needed: database, warehouses, roles, landing stage, pipes, masking, a limit of credits."
    bootstrap = actions.add_parser("bootstrap", help=text, description=text)
    bootstrap.add_argument("--role-arn", default="", metavar="ARN", help="the AWS role that may read the bucket")
    bootstrap.add_argument("--topic-arn", default="", metavar="ARN", help="the SNS topic that tells of new objects")
    bootstrap.add_argument("--credits", type=int, default=100, help="a month, then all work ends (100)")
    bootstrap.add_argument("--size", default="XSMALL", help="of the warehouses (XSMALL)")
    bootstrap.add_argument(
        "--idle", type=int, default=60, metavar="SECONDS", help="until a warehouse is suspended (60)"
    )
    bootstrap.add_argument("--no-masking", action="store_true", help="on an edition that has none")
    bootstrap.add_argument(
        "--native", nargs="*", metavar="ENTITY", help="and streams and tasks that merge these by themselves (all)"
    )
    text = "Take all of it away, the data too."
    teardown = actions.add_parser("teardown", help=text, description=text)
    teardown.add_argument("--yes", action="store_true", help="that is what is wanted")
    teardown.add_argument("--warehouses", action="store_true", help="the warehouses as well")
    for action in (bootstrap, teardown):
        action.add_argument("--print", action="store_true", help="only print the statements")
    text = "Credits per asset and warehouse, the dearest first."
    cost = actions.add_parser("cost", help=text, description=text)
    cost.add_argument("--days", type=int, default=7, help="that it looks back (7)")
    cost.add_argument("--format", choices=("table", "csv", "json"), default="table")


def _stream_arguments(stream: argparse.ArgumentParser) -> None:
    sources = stream.add_subparsers(dest="source", metavar="SOURCE", required=True)
    text = "A topic of Kafka, or of a broker that speaks its protocol."
    kafka = sources.add_parser("kafka", help=text, description=text)
    kafka.add_argument("--topic", default="clickstream_events", help="(%(default)s)")
    kafka.add_argument("--group", default="clickstream_consumer_group", help="of consumers that share it (%(default)s)")
    kafka.add_argument("--bootstrap", metavar="HOST:PORT", help="where the broker is (KAFKA_BOOTSTRAP)")
    kafka.add_argument("--skip-lost", action="store_true", help="go on where the broker has deleted unread events")
    kafka.add_argument("--landed-as", metavar="NAME", help="where a topic of that name has landed before")
    kafka.add_argument("--events", choices=("json", "avro", "protobuf"), default="json", help="their format (json)")
    kafka.add_argument("--schema-registry", metavar="URL", help="of Confluent's kind, for avro and protobuf")
    kafka.add_argument("--descriptors", type=Path, metavar="FILE", help="for protobuf: of protoc --descriptor_set_out")
    kafka.add_argument("--message", metavar="NAME", help="for protobuf: the type of the events, shop.Click")
    text = "A stream of Kinesis."
    kinesis = sources.add_parser("kinesis", help=text, description=text)
    kinesis.add_argument("--stream", default="clickstream_events", help="its name (%(default)s)")
    for source in (kafka, kinesis):
        source.add_argument("--feed", default="clickstream", help="that they land as (%(default)s)")
        source.add_argument(
            "--batch-seconds", type=float, default=1.0, metavar="SECONDS", help="an object at least every (1)"
        )
        source.add_argument(
            "--batch-bytes", type=int, default=8 * 1024 * 1024, metavar="BYTES", help="or of that size (8 MiB)"
        )
        source.add_argument("--batch-events", type=int, default=50_000, metavar="COUNT", help="or of so many (50000)")
        source.add_argument("--idle", type=float, metavar="SECONDS", help="end when nothing came for so long")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="c360", description="Customer files on S3 become current, history and numbers.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    land = add("land", "land", "Put files on S3, under their feed; prints key, etag and new, same or overwritten.")
    land.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a file, or a folder whose files are meant")
    land.add_argument("--watch", type=Path, metavar="DIR", help="stay, land what is laid there, and move it aside")
    land.add_argument(
        "--settle", type=float, default=2.0, metavar="SECONDS", help="a file is whole when nobody wrote (2)"
    )
    land.add_argument("--feed", required=True, help="the feed that the files belong to")

    _stream_arguments(add("stream", "stream", "Land what a broker brings, each event once, until it is stopped."))

    sync = add("sync", "sync", "One Dagster run of all that is new, in bounded batches, up to the last layer.")
    sync.add_argument(
        "--all", action="store_true", help="also what has nothing new, and all its checks, as every night"
    )
    sync.add_argument("--rebuild", action="store_true", help="make every table anew from staging")
    sync.add_argument(
        "--plan", action="store_true", help="say what it would do, by doing it on a copy; nothing changes"
    )
    sync.add_argument("--format", choices=("table", "csv", "json"), default="table", help="of the plan")

    def key_of(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", nargs="+", metavar="ID", help="the key; its columns one after another")
        parser.add_argument("--entity", default="customer", help="whose key it is (customer)")
        parser.add_argument("--format", choices=("table", "csv", "json"), default="table")

    customer = add("customer", "customer", "The life of one customer as a time line, or what held at an instant.")
    key_of(customer)
    customer.add_argument("--as-of", metavar="T", help="what held then, such as 2026-11-21 or 2026-11-21T08:00:00Z")
    customer.add_argument("--known-at", metavar="T", help="as it was known then")

    export = add("export", "export", "All that is held of one customer, in every table, as JSON.")
    export.add_argument("id", metavar="ID")
    forget = add(
        "forget", "forget", "One person out of everything, for good: S3, tables, history, logs; with a certificate."
    )
    forget.add_argument("id", metavar="ID")
    forget.add_argument("--reason", required=True, help="stands in the certificate; say nothing personal")
    forget.add_argument("--yes", action="store_true", help="it is meant")

    backup = add(
        "backup", "backup", "The state of this home as a folder of files with their digests; it may be at work."
    )
    backup.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    restore = add("restore", "restore", "Make this home of a backup; who was forgotten since stays forgotten.")
    restore.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR", help="what backup wrote")
    restore.add_argument("--replace", action="store_true", help="put aside what this home holds")

    key_of(
        add(
            "explain",
            "explain",
            "Each event of one customer: what it did, what came late, what was suppressed and why.",
        )
    )

    audit = add(
        "audit", "audit", "Check any history table that somebody has, against a log of changes if there is one."
    )
    _audit_arguments(audit)

    entity = add("entity", "entity", "Write the models of an entity: current, history, ties, as-of functions, checks.")
    entity.add_argument("name", metavar="NAME")
    entity.add_argument("--key", required=True, metavar="COLUMNS", help="its key: order_id,line")
    entity.add_argument(
        "--tracked", required=True, metavar="COLUMNS", help="a change opens a version: name,price:decimal(18,4)"
    )
    entity.add_argument("--type1", default="", metavar="COLUMNS", help="a change corrects the version: note")

    status = add("status", "status", "Feeds, what waits, refusals, checks.")
    status.add_argument("--format", choices=("table", "json"), default="table")

    predict = add(
        "predict", "predict", "Churn risk, value of customers, forecast of sales: with the extra predictions."
    )
    predict.add_argument(
        "--as-of", metavar="DAY", help="as if it were this day, YYYY-MM-DD (the last with a purchase that is over)"
    )
    predict.add_argument("--known-at", metavar="T", help="by what was known then: as it was told at that instant")

    query = add("query", "query", "One read-only statement.")
    query.add_argument("sql")
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    query.add_argument("--wait", type=float, metavar="SECONDS", help="how long to wait for a writer (60, or C360_WAIT)")

    up = add("up", "up", "S3, Dagster UI and daemon with the sensors on; Ctrl-C stops it all.")
    up.add_argument("--port", type=int, default=3000, help="of the Dagster UI")
    up.add_argument("--api-port", type=int, default=8000, help="of the API")
    up.add_argument("--dashboard-port", type=int, default=8501, help="of the dashboards")
    up.add_argument(
        "--generate", action="store_true", help="let generators land customer files and till receipts now and then"
    )

    up.add_argument("--no-worker", action="store_true", help="leave all to the sensors")
    up.add_argument("--clicks", type=float, default=20.0, metavar="PER_SECOND", help="that are generated (20)")

    api = add("api", "api", "The API over what is served: customers, their history, orders, products.")
    api.add_argument("--host", default="127.0.0.1", help="to listen on; another than this machine needs a public key")
    api.add_argument("--port", type=int, default=8000)
    api.add_argument("--workers", type=int, default=1, help="processes")

    dashboard = add("dashboard", "dashboard", "Pages: sales, stock, a customer and their time line, segments, quality.")
    dashboard.add_argument("--host", default="127.0.0.1", help="to listen on")
    dashboard.add_argument("--port", type=int, default=8501)
    dashboard.add_argument(
        "--behind-proxy", action="store_true", help="a proxy in front of them knows who may see them"
    )
    dashboard.add_argument("--personal", action="store_true", help="show names and addresses, which are masked else")

    add("worker", "worker", "Stay, see new objects at once, and make of them what has to be there in seconds.")

    add("prepare", "prepare", "Read the dbt project ahead, so that the first start is quick.")

    report = add("report", "report", "One page: what came in, what was refused and why, every check with its trend.")
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="where it is written")
    quarantine = add("quarantine", "quarantine", "What was refused and why; try again after a fix, or let go.")
    actions = quarantine.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("list", "Open refusals, newest first."),
        ("show", "Open refusals with their text."),
        ("replay", "Try them again, and run what follows."),
        ("fix", "Land them corrected, at their own event time, and run what follows."),
        (
            "release",
            "Let snapshots that the guard holds, or with --feed and --key an object that an expectation holds, pass.",
        ),
        ("dismiss", "Take them out of the register; they stay in staging and in the accounting."),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--feed", help="only of this feed")
        action.add_argument("--key", help="only of this object: its key, or the last part of it")
        action.add_argument("--row", type=int, help="only the record with this ordinal; 0 is the object as a whole")
        action.add_argument("--reason", help="only with this reason: bad_date, or bad_date:signup_date")
        if name in ("list", "show"):
            action.add_argument("--limit", type=int, default=50 if name == "list" else 10)
            action.add_argument("--format", choices=("table", "csv", "json"), default="table")
        else:
            action.add_argument("--all", action="store_true", help="all that are open")
        if name == "fix":
            action.add_argument(
                "--set", action="append", required=True, metavar="COLUMN=VALUE", help="may be said more than once"
            )
        if name == "dismiss":
            action.add_argument("--why", required=True, help="kept with the decision")
    _snowflake_arguments(add("snowflake", "snowflake", "What the account has to have, and what it costs."))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
