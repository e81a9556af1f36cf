"""Erasure: who is forgotten, and their records out of S3 and staging in one unit of work.

Belongs here: the ledger of the forgotten, finding their records in staging, and rewriting objects. What is made of
staging is made anew by whoever calls. The ledger stands on S3 beside what is landed: there it outlives the warehouse.
It holds keyed hashes of ids and never an id, so that who has it alone learns nobody's name of it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from c360_assets import redaction
from c360_assets.feeds import Feed
from c360_assets.files import write_whole
from c360_assets.landing import Bucket
from c360_assets.reading import Unreadable, format_of
from c360_assets.redaction import Naming, PseudonymOf, Redacted, Unredactable, numbers_left, spellings, tokens_of
from c360_assets.settings import Settings
from c360_assets.spool import MODIFIED, layout_of
from c360_assets.warehouse import Session

LEDGER_KEY = "c360/forgotten.json"
_ABSENT, _ANOTHER = ("404", "NoSuchKey", "NotFound"), ("412", "PreconditionFailed")
_STEP = 500


class ErasureError(RuntimeError):
    """Nobody was forgotten, or not wholly; the text says what is in the way and the remedy."""


class Forgotten:
    """Who is forgotten: {keyed hash of the id: pseudonym}, and how to tell whether an id is one of them."""

    def __init__(self, key: bytes, entries: Sequence[Mapping[str, str]], etag: str = "") -> None:
        self._key, self._etag = key, etag
        self.entries = list(entries)
        self._pseudonyms = {entry["hmac"]: entry["pseudonym"] for entry in entries}
        self.pseudonym_of: PseudonymOf = lru_cache(maxsize=1 << 20)(self._pseudonym_of)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @classmethod
    def read(cls, bucket: Bucket, key_file: Path, stated: str = "") -> Forgotten:
        """The ledger as it is on S3, with the key that is stated, or the one in the file, which is made if need be.

        Raises:
            ErasureError: if the ledger was written with another key: nobody in it would be recognized.
        """
        try:
            answer = bucket.client.get_object(Bucket=bucket.name, Key=LEDGER_KEY)
            told, etag = json.loads(answer["Body"].read()), answer["ETag"]
        except ClientError as error:
            if error.response["Error"]["Code"] not in (*_ABSENT, "NoSuchBucket"):
                raise
            told, etag = {"proof": "", "forgotten": []}, ""
        if not stated and not key_file.exists() and not told["forgotten"]:
            return cls(b"", [])
        key = (stated or (key_file.read_text().strip() if key_file.exists() else "")).encode()
        if told["forgotten"] and not hmac.compare_digest(_hash(key, LEDGER_KEY), told["proof"]):
            raise ErasureError(
                f"{len(told['forgotten'])} persons are forgotten in s3://{bucket.name}/{LEDGER_KEY}, under another key "
                f"than {'C360_ERASURE_KEY' if stated else key_file} has, and would come back; set C360_ERASURE_KEY to "
                "theirs"
            )
        return cls(key, told["forgotten"], etag)

    def add(self, bucket: Bucket, key_file: Path, customer_id: str, reason: str) -> Forgotten:
        """With this person in it, on S3 already; one who is in it stays as they are."""
        if self._pseudonym_of(customer_id) is not None:
            return self
        key = self._key or _made_key(key_file)
        entry = {
            "hmac": _hash(key, customer_id), "pseudonym": f"forgotten-{secrets.token_hex(8)}", "reason": reason,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        entries = [*self.entries, entry]
        body = json.dumps({"proof": _hash(key, LEDGER_KEY), "forgotten": entries}, indent=1)
        unchanged: Any = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        try:
            answer = bucket.client.put_object(Bucket=bucket.name, Key=LEDGER_KEY, Body=body.encode(), **unchanged)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _ANOTHER:
                raise
            raise ErasureError("somebody else is being forgotten at the same time: say it again") from error
        return Forgotten(key, entries, answer["ETag"])

    def _pseudonym_of(self, customer_id: str) -> str | None:
        return self._pseudonyms.get(_hash(self._key, customer_id)) if self._pseudonyms else None


def forgotten_of(settings: Settings) -> Callable[[Bucket], Forgotten]:
    """The ledger as it is when it is asked for, under the key of the settings; a rehearsal writes no object anew."""
    if settings.rehearsal:
        return lambda _: Forgotten(b"", [])
    return lambda bucket: Forgotten.read(bucket, settings.erasure_key_file, settings.erasure_key)


def _hash(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _made_key(file: Path) -> bytes:
    """Readable by its owner alone, and on the disk before anything is written under it: no other could ever be."""
    key = secrets.token_hex(32)
    write_whole(file, key + "\n")
    return key.encode()


@dataclass(frozen=True)
class Scope:
    """Which staged rows are looked at: SQL over a staging table or `refused_rows`, with its values."""

    sql: str
    values: tuple[object, ...]

    @classmethod
    def of_batch(cls, batch: str) -> Callable[[str], Scope]:
        return lambda _: cls("_batch = ?", (batch,))

    @classmethod
    def of_all(cls, column: str) -> Scope:
        return cls(f"{column} is not null", ())

    @classmethod
    def of_text(cls, text: str) -> Callable[[str], Scope]:
        """Rows in which the column has the text somewhere: near enough to look closely."""
        forms = spellings(text)
        return lambda column: cls(f"({' or '.join([f'position(? in {column}) > 0'] * len(forms))})", forms)


@dataclass
class Found:
    """What was erased, counted."""

    objects: list[str] = field(default_factory=list)
    dropped: int = 0
    changed: int = 0
    refused: int = 0

    def __bool__(self) -> bool:
        return bool(self.objects or self.dropped or self.changed or self.refused)


def exactly(customer_id: str, pseudonym: str) -> PseudonymOf:
    return lambda text: pseudonym if text == customer_id else None


def erase(
    session: Session, bucket: Bucket, feed: Feed, people: PseudonymOf, scope: Callable[[str], Scope], batch: str,
    now: datetime, *, rehearses: bool = False,
) -> Found:  # fmt: skip
    """Takes the people out of the feed's objects on S3 and out of its staged rows. Within an open transaction.

    An object is put before the transaction ends. If that fails, S3 has a version that the ledger does not know, which
    the next load takes for an overwritten one; the people are not in it.

    `scope`: {column: rows to look at}; `batch`, `now`: under which the ledger has the rewritten objects. With
    `rehearses` nothing is written, and it is told whether all could be.

    Raises:
        ErasureError: if an object cannot be written without the people.
    """
    naming = Naming.of(feed)
    found = Found()
    if naming is None:
        return found
    rows = _staged(session, naming, people, scope)
    refused = _refused(session, feed, people, scope)
    objects = sorted({(key, etag) for key, etag, *_ in rows} | {(key, etag) for key, etag, *_ in refused})
    # One at a time: a person may be in thousands of them.
    versions = (_read(bucket, feed, naming, key, etag, people) for key, etag in objects)
    if rehearses:
        found.objects = [version.key for version in versions if version is not None]
        return found
    for key, etag, number, raw in refused:
        if not tokens_of(raw, people):
            continue  # its object tells whether the number stands where an id does
        session.execute(
            "delete from staging.refused_rows where feed = ? and _key = ? and _etag = ? and _row = ?",
            [feed.name, key, etag, number],
        )
        found.refused += 1
    written: set[tuple[str, str]] = set()
    for version in versions:
        after = version.put(bucket) if version is not None else None
        if version is not None and after is not None:
            key, etag, made = version.key, version.etag, version.made
            _note(session, feed, version, after, batch, now)
            written.add((key, etag))
            found.objects.append(key)
            found.dropped += len(made.dropped)
            found.changed += len(made.changed)
    # What is not on S3 any more is in staging alone; of what is, staged rows are as the object has them.
    for key, etag, number, column, text in rows:
        told = naming.payload(text, people) if feed.payload else naming.pseudonym(text, people)
        of = "_key = ? and _row = ?"
        if naming.drops:
            if (key, etag) not in written:
                session.execute(f"delete from staging.{feed.name} where {of} and _etag = ?", [key, number, etag])
                found.dropped += 1
        else:
            session.execute(
                f"update staging.{feed.name} set {column} = ? where {of} and {column} = ?", [told, key, number, text]
            )
            found.changed += (key, etag) not in written
    return found


def _staged(
    session: Session, naming: Naming, people: PseudonymOf, scope: Callable[[str], Scope]
) -> list[tuple[str, str, int, str, str]]:
    """(key, etag, row, column, text) of the staged values that name one of the people."""
    found = []
    for column in naming.columns:
        within = scope(column)
        values = session.rows(
            f"select distinct {column} from staging.{naming.feed.name} where {within.sql} and {column} is not null",
            within.values,
        )
        told = [text for (text,) in values if naming.names(text, people)]
        for start in range(0, len(told), _STEP):
            some = told[start : start + _STEP]
            found += session.rows(
                f"select _key, _etag, _row, '{column}', {column} from staging.{naming.feed.name} "
                f"where {within.sql} and {column} in ({', '.join('?' * len(some))})",
                [*within.values, *some],
            )
    return [(str(key), str(etag), int(row), str(column), str(text)) for key, etag, row, column, text in found]


def _refused(
    session: Session, feed: Feed, people: PseudonymOf, scope: Callable[[str], Scope]
) -> list[tuple[str, str, int, str]]:
    """(key, etag, row, text) of the refused records that may name one of the people."""
    within = scope("raw")
    rows = session.rows(
        f"select _key, _etag, _row, raw from staging.refused_rows where feed = ? and {within.sql}",
        [feed.name, *within.values],
    )
    return [(key, etag, int(row), raw) for key, etag, row, raw in rows if raw and tokens_of(raw, people, numbers=True)]


@dataclass(frozen=True)
class _Version:
    """An object as S3 has it, and what it is without the people."""

    key: str
    etag: str
    made: Redacted
    metadata: Mapping[str, str]

    def put(self, bucket: Bucket) -> str | None:
        """Its new etag; None if somebody has put another version of it meanwhile, which is for the next load."""
        try:
            answer = bucket.client.put_object(
                Bucket=bucket.name, Key=self.key, Body=self.made.data, Metadata=self.metadata, IfMatch=f'"{self.etag}"'
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _ANOTHER:
                return None
            raise
        return str(answer["ETag"]).strip('"')


def _read(bucket: Bucket, feed: Feed, naming: Naming, key: str, etag: str, people: PseudonymOf) -> _Version | None:
    """None if S3 has no such version of it, or none of the people is in it."""
    try:
        told = bucket.client.get_object(Bucket=bucket.name, Key=key, IfMatch=f'"{etag}"')
    except ClientError as error:
        if error.response["Error"]["Code"] in (*_ABSENT, *_ANOTHER):
            return None
        raise
    form = format_of(key) or feed.formats[0]
    try:
        made = redaction.redacted(told["Body"].read(), form, layout_of(feed), naming, people)
    except (Unreadable, Unredactable) as error:
        raise ErasureError(f"s3://{bucket.name}/{key}: {error}") from error
    if not made.dropped and not made.changed:
        return None
    # A home that is made of S3 alone is to find the instants that this one has.
    since = told["LastModified"].astimezone(UTC).isoformat()
    return _Version(key, etag, made, {"mtime": since, MODIFIED: since} | told.get("Metadata", {}))


def _note(session: Session, feed: Feed, version: _Version, after: str, batch: str, now: datetime) -> None:
    """The rewritten object in the ledger, and staged rows under the numbers and the etag that they have in it."""
    key, etag, made = version.key, version.etag, version.made
    of = [key, etag]
    tables = {
        f"staging.{feed.name}": "_key = ? and _etag = ?",
        "staging.refused_rows": f"feed = '{feed.name}' and _key = ? and _etag = ?",
        "staging.quarantine_decisions": f"feed = '{feed.name}' and _key = ? and _etag = ?",
    }
    for table, where in tables.items():
        for start in range(0, len(made.dropped), _STEP):
            some = made.dropped[start : start + _STEP]
            session.execute(
                f"delete from {table} where {where} and _row in ({', '.join('?' * len(some))})", [*of, *some]
            )
        for low, high, less in _shifts(made):
            session.execute(
                f"update {table} set _row = _row - ? where {where} and _row between ? and ?", [less, *of, low, high]
            )
        session.execute(f"update {table} set _etag = ? where {where}", [after, *of])
    known = session.rows(
        "select etag from staging.object_ledger where feed = ? and key = ? and status <> 'gone' "
        "order by batch desc limit 1",
        [feed.name, key],
    )
    session.execute(
        "update staging.object_ledger set etag = ?, size = ? where feed = ? and key = ? and etag = ?",
        [after, len(made.data), feed.name, *of],
    )
    if known != [(etag,)]:
        return  # a version of before that has come back, and waits: the next load takes it
    session.execute(
        "insert into staging.object_ledger "
        "(feed, key, etag, size, last_modified, event_time, status, batch, loaded_at) "
        "select feed, key, etag, size, max(last_modified), max(event_time), 'erased', ?, ? from staging.object_ledger "
        "where feed = ? and key = ? and etag = ? group by feed, key, etag, size",
        [batch, now, feed.name, key, after],
    )


def _shifts(made: Redacted) -> Iterator[tuple[int, int, int]]:
    """(first, last, by how many less) of stretches of numbers that move, in their order."""
    by: dict[int, list[int]] = defaultdict(list)
    for before, after in numbers_left(made.count, made.dropped):
        by[before - after].append(before)
    for less, numbers in sorted(by.items()):
        yield numbers[0], numbers[-1], less
