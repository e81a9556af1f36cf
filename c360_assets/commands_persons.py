"""Commands about one person: `c360 export`, all that is held of them, and `c360 forget`, which takes them out of it."""

from __future__ import annotations

import argparse
import json

from c360_assets import local, persons
from c360_assets.cli import DONE, ERROR, USAGE, say
from c360_assets.feeds import load_feeds
from c360_assets.settings import Settings
from c360_assets.store import plain
from c360_assets.warehouse import open_warehouse


def export(options: argparse.Namespace, settings: Settings) -> int:
    """What a person may ask for: every row that names them, and the objects that those came with."""
    feeds = load_feeds([settings.dbt_project / "models" / "staging"])
    with open_warehouse(settings, announce=say).reading() as session:
        tables = persons.held(session, options.id, feeds)
    objects = sorted({str(row["_key"]) for rows in tables.values() for row in rows if row.get("_key")})
    told = {
        "customer_id": options.id,
        "objects": objects,
        "tables": {table: [{n: plain(v) for n, v in row.items()} for row in rows] for table, rows in tables.items()},
    }
    print(json.dumps(told, ensure_ascii=False, indent=1))
    return DONE


def forget(options: argparse.Namespace, settings: Settings) -> int:
    """Out of everything, for good; says so first, and asks for a word."""
    from c360_assets.forgetting import forget as forgotten

    if not options.yes:
        say(
            f"c360 forget: '{options.id}' would be taken out of S3, the warehouse and all that is made of it, and "
            "nothing brings them back; everything is made anew after it. Say --yes if that is meant"
        )
        return USAGE
    with local.embedded_s3(settings):
        local.landing_bucket(settings).ensure()
        with local.dagster_instance(settings) as instance:
            certificate = forgotten(settings, instance, options.id, options.reason, say)
    print(json.dumps(certificate, ensure_ascii=False, indent=1))
    return DONE if certificate["clean"] else ERROR
