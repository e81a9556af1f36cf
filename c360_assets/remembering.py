"""Remembering: who is forgotten stays so in a home that is made of a backup, which may be older than their forgetting.

Belongs here: what a home knows of it, carrying that into another home, and taking them out of it before it takes its
place: a restore that is broken off at any point leaves no home in which they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c360_assets import local, pending, persons
from c360_assets.backup import OBJECTS
from c360_assets.erasure import LEDGER_KEY, Scope, forgotten_of
from c360_assets.feeds import load_feeds
from c360_assets.files import write_whole
from c360_assets.forgetting import taken_out
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.warehouse import open_warehouse


@dataclass(frozen=True)
class Memory:
    """Who is forgotten, as a home knows it: its ledger, the key to it, its certificates."""

    ledger: dict[str, Any]
    key: str
    certificates: Mapping[str, bytes]

    @classmethod
    def of(cls, settings: Settings) -> Memory | None:
        """None where the home has no S3, or nobody is forgotten in it."""
        if not settings.s3_endpoint and not (settings.home / OBJECTS).is_dir():
            return None
        with local.embedded_s3(settings):
            bucket = local.landing_bucket(settings)
            bucket.ensure()
            forgotten = forgotten_of(settings)(bucket)
            if not forgotten:
                return None
            ledger = json.loads(bucket.client.get_object(Bucket=bucket.name, Key=LEDGER_KEY)["Body"].read())
        file = settings.erasure_key_file
        kept = sorted((settings.home / "forgotten").glob("*"))
        return cls(ledger, file.read_text() if file.exists() else "", {path.name: path.read_bytes() for path in kept})

    def carry(self, settings: Settings, bucket: Bucket) -> None:
        """Into the home of the settings, beside whom it knows itself.

        Raises:
            ErasureError: if that was written with another key.
        """
        if self.key and not settings.erasure_key_file.exists():
            write_whole(settings.erasure_key_file, self.key)
        there = forgotten_of(settings)(bucket).entries  # under the same key, or it is told
        known = {entry["hmac"] for entry in self.ledger["forgotten"]}
        entries = [*self.ledger["forgotten"], *(entry for entry in there if entry["hmac"] not in known)]
        body = json.dumps(self.ledger | {"forgotten": entries}, indent=1)
        bucket.client.put_object(Bucket=bucket.name, Key=LEDGER_KEY, Body=body.encode())
        for name, text in self.certificates.items():
            path = settings.home / "forgotten" / name
            if not path.exists():
                write_whole(path, text)


def forget_again(settings: Settings, memories: Sequence[Memory], say: Callable[[str], None]) -> bool:
    """Out of a home that is not in its place yet, whoever was forgotten since its backup was made; was anybody?

    What is made of staging goes with them, for a run to make anew. A warehouse on Snowflake is in no backup: there a
    load meets whoever comes back with an object.

    Raises:
        ErasureError: if the ledger of the forgotten cannot be read with the key that is there, or an object cannot be
            written without them.
    """
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        # Made while somebody was being forgotten: they are out of its objects, and not yet out of the rest.
        is_half_done = any((settings.home / "forgotten").glob("*.begun"))
        for memory in memories:
            memory.carry(settings, bucket)
        forgotten = forgotten_of(settings)(bucket)
        if not forgotten or settings.warehouse != "duckdb" or not settings.duckdb_path.exists():
            return False
        warehouse = open_warehouse(settings, announce=say)
        feeds = load_feeds([settings.dbt_project / "models" / "staging"])
        with warehouse.reading() as session:
            is_half_done |= pending.UNFINISHED in session.tables() and pending.is_rebuild_unfinished(session)
        found = taken_out(warehouse, bucket, feeds, forgotten.pseudonym_of, Scope.of_all)
        if not is_half_done and not any(found.values()):
            return False
    say("the backup holds persons who were forgotten since: they are taken out, and everything is made anew")
    with warehouse.writing("forgetting") as session:
        for schema in persons.SCHEMAS:
            if schema != "staging":
                session.execute(f"drop schema if exists {schema} cascade")
    warehouse.purge()
    # Messages and logs of then may name them; what is served and shown is made anew.
    for folder in (settings.dagster_home, settings.dbt_home):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (settings.home / "report.html", settings.home / "serving.sqlite"):
        file.unlink(missing_ok=True)
    return True
