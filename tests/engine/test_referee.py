"""Other systems' test cases (Apache Spark AUTO CDC, Databricks documentation), all of them at once through the engine.

A case is part of the key, so that the n-th batches of all cases are one batch of ours. Where those systems fail a whole
batch on a null key or sequence, we quarantine the row; where they leave a tie undefined, any of the allowed is right.
A truncate is told as a delete, at its instant, of every key of the case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from c360_assets import entities, registers
from c360_assets.landing import Bucket
from c360_assets.warehouse import insert
from tests.parts import Platform, project_with, settings_at

TRACKED, TYPE1 = ("t1", "t2", "t3"), ("o1", "o2", "o3")
FEED = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: referee
        columns: [{columns}]
        config:
          meta:
            feed:
              prefix: referee/
              formats: [csv]
              required: [case_id]
              entity: referee
              event_time: {{column: seq}}
              operation: {{column: op, upsert: [UPSERT], delete: [DELETE]}}
"""
COLUMNS = ("case_id", "k1", "k2", *TRACKED, *TYPE1, "seq", "op")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    declared = ", ".join(f"{{name: {c}, data_type: varchar}}" for c in COLUMNS)
    files = {"models/staging/referee.yml": FEED.format(columns=declared)}
    made = project_with(tmp_path_factory.mktemp("referee"), files)
    tracked, type1 = (tuple((c, "varchar") for c in columns) for columns in (TRACKED, TYPE1))
    entities.write(entities.Declaration("referee", ("case_id", "k1", "k2"), tracked, type1), made)
    return made


def cases(shared: Path) -> Iterator[dict[str, Any]]:
    for name in ("spark_autocdc_scd2", "spark_autocdc_scd1", "databricks_docs_cdc"):
        for case in json.loads((shared / "referee" / f"{name}.json").read_text())["cases"]:
            yield case | {"id": f"{name}.{case['id']}"}


def instant(seq: int | None) -> datetime | None:
    return None if seq is None else datetime.fromtimestamp(seq, UTC).replace(tzinfo=None)


# Where they fail a whole batch on a null key or sequence, we quarantine the row, and the sound rows of the batch stand.
SOUND_ROWS = {"spark_autocdc_scd1.null_keys": [{"id": 2, "value": "ok"}]}


class Case:
    """One case under our column names."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.id = case["id"]
        self.case = case
        tracked = case.get("tracked_columns") or case["columns"]
        rest = [c for c in case["columns"] if c not in tracked]
        self.names = dict(zip(tracked, TRACKED)) | dict(zip(rest, TYPE1))  # noqa: B905
        self.batches = [b["events"] for b in case["batches"]]
        if case.get("initial_events"):
            self.batches.insert(0, case["initial_events"])

    @property
    def first(self) -> int:
        """The place of the case's own first batch among ours."""
        return len(self.batches) - len(self.case["batches"])

    def rows(self, number: int) -> Iterator[dict[str, str | None]]:
        for event in self.batches[number] if number < len(self.batches) else []:
            if event["op"] == "truncate":
                keys = {json.dumps(e["key"]) for batch in self.batches for e in batch if e["key"]}
                events = [event | {"op": "delete", "key": json.loads(key)} for key in sorted(keys)]
            else:
                events = [event]
            for e in events:
                at = instant(e["seq"])
                yield self.key(e["key"]) | {
                    **{self.names[c]: _text(v) for c, v in e["columns"].items()},
                    "seq": at.isoformat() if at else None,
                    "op": e["op"],
                }

    def key(self, key: dict[str, Any]) -> dict[str, str | None]:
        values = [_text(key[name]) for name in self.case["keys"]]
        return {"case_id": self.id, "k1": values[0], "k2": values[1] if len(values) > 1 else "-"}

    def expected(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows in our columns; a value that may be one of several stays a set."""
        return [
            self.key(row)
            | {ours: _allowed(row.get(theirs)) for theirs, ours in self.names.items()}
            | (
                {"valid_from": instant(row["start"]), "valid_to": instant(row["end"])}
                if self.case["scd_type"] == 2
                else {}
            )
            for row in rows
        ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _allowed(value: Any) -> set[str | None]:
    return {_text(v) for v in value["one_of"]} if isinstance(value, dict) else {_text(value)}


def assert_case(platform: Platform, case: Case, rows: list[dict[str, Any]]) -> None:
    table = "core.referee_history" if case.case["scd_type"] == 2 else "core.referee"
    found = platform.table(table, f"case_id = '{case.id}'")
    expected = case.expected(rows + SOUND_ROWS.get(case.id, []))
    assert len(found) == len(expected), f"{case.id}: {found} instead of {expected}"
    for want in expected:
        assert any(
            all(got[name] in value if isinstance(value, set) else got[name] == value for name, value in want.items())
            for got in found
        ), f"{case.id}: no row like {want} in {found}"


@pytest.mark.parametrize("together", [False, True], ids=["batch by batch", "in one batch"])
def test_every_case_of_the_referees_holds(
    together: bool, shared: Path, project: Path, tmp_path: Path, bucket: Bucket
) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    all_cases = [Case(case) for case in cases(shared)]
    assert len(all_cases) == 62
    last = max(len(case.batches) for case in all_cases)
    models = ("+referee_log", "+referee", "+referee_history", "+referee_ties")
    selection = ("--indirect-selection", "cautious", "--select", *models)
    for number in range(last):
        with platform.warehouse.writing("test") as session:
            registers.prepare_tables(session, list(platform.feeds.values()))
            with session.transaction():
                batch, now = registers.next_batch(session)
                for case in all_cases:
                    rows = [tuple(row.get(c) for c in COLUMNS) for row in case.rows(number)]
                    key = f"referee/{case.id}-{number}.csv"
                    lineage = [(*row, key, "e", n, now, batch) for n, row in enumerate(rows, 1)]
                    into = dict.fromkeys([*COLUMNS, "_key", "_etag", "_row", "_loaded_at", "_batch"], "")
                    insert(session, "staging.referee", into, lineage)
                    ledger = [("referee", key, "e", 1, now, None, "loaded", batch, now)]
                    insert(session, "staging.object_ledger", registers.LEDGER, ledger)
        if together:
            continue
        platform.build(*selection)
        for case in all_cases:
            after = case.case["expected_after_batch"].get(
                str(case.case["batches"][number - case.first]["batch_id"])
                if case.first <= number < len(case.batches)
                else ""
            )
            if after is not None:
                assert_case(platform, case, after)
    if together:
        platform.build(*selection)
    for case in all_cases:
        assert_case(platform, case, case.case["expected"])
    refused = platform.rows("select count(*) from clean.referee_rows where reasons <> '[]'")
    events = [event for case in all_cases for batch in case.batches for event in batch if event["op"] != "truncate"]
    assert refused == [(sum(1 for e in events if e["seq"] is None or None in e["key"].values()),)]
    assert {case.id for case in all_cases if case.case["expected_error"]} >= SOUND_ROWS.keys()
