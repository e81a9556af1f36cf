"""Commands about one person: `c360 export`, all that is held of them."""

from __future__ import annotations

import argparse
import json

from c360_assets import persons
from c360_assets.cli import DONE, say
from c360_assets.settings import Settings
from c360_assets.store import plain
from c360_assets.warehouse import open_warehouse


def export(options: argparse.Namespace, settings: Settings) -> int:
    """What a person may ask for: every row that names them, and the objects that those came with."""
    with open_warehouse(settings, announce=say).reading() as session:
        tables = persons.held(session, options.id)
    objects = sorted({str(row["_key"]) for rows in tables.values() for row in rows if row.get("_key")})
    told = {
        "customer_id": options.id,
        "objects": objects,
        "tables": {table: [{n: plain(v) for n, v in row.items()} for row in rows] for table, rows in tables.items()},
    }
    print(json.dumps(told, ensure_ascii=False, indent=1))
    return DONE
