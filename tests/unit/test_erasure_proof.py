"""By what a person is recognized in texts, files and databases, and what of them a scrubbed file keeps."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c360_assets import erasure_proof
from c360_assets.erasure import ErasureError
from c360_assets.erasure_proof import Marks, files_of, in_files
from c360_assets.persons import names
from c360_assets.scrubbing import scrub
from c360_assets.store import Change, Shape, Store

MARKS = Marks("CUST-7", ("77 Straße Nowhere", 'Zoe "Z" Unmistakable', "zoe@example.org"))
NUMBER = Marks("17850")


@pytest.mark.parametrize("text", [*MARKS.texts, "C:\\n CUST-7", "é CUST-7"])
def test_a_mark_is_known_as_json_has_it_however_deep(text: str) -> None:
    for told in (text, f"({text})", f"\n{text}\n"):
        for only in (True, False):
            once = json.dumps(told, ensure_ascii=only)
            twice = json.dumps({"event": once}, ensure_ascii=only)
            for form in (told, once, once.replace("\\u00df", "\\u00DF"), twice, json.dumps(twice)):
                assert MARKS.in_text(form), form
                assert not MARKS.in_text(MARKS.without(form.encode(), "gone").decode())
    assert any(text in form or form in text for form in MARKS.spellings)


@pytest.mark.parametrize("text", ["CUST-77", "XCUST-7", "177 Straße Nowhere", "77 Strasse Nowhere", "zoe@example.orgs"])
def test_a_longer_word_is_another(text: str) -> None:
    assert not MARKS.in_text(text) and not MARKS.in_text(json.dumps(text))


@pytest.mark.parametrize(
    ("mark", "of_others", "theirs"),
    [
        ("lee@x.org", ("ann.lee@x.org", "ann+lee@x.org", "lee@x.org.uk"), ("lee@x.org.", "of:lee@x.org", "lee@x.org@2026")),
        ("cust.1", ("cust.1.2", "of.cust.1"), ("cust.1.csv", "cust.1.0", "customers/cust.1.csv.gz", "cust.1.")),
        ("urn:7", ("urn:7:b",), ("urn:7: gone", "urn:7@2026")),
        ("DE/7", ("DE/7/b",), ("customers/DE/7", "DE/7@2026")),
        ("ller-1", ("Müller-1", "ller-1ß"), ("“ller-1”", "顧客ller-1は")),
        ('a"b', ('a"bc', 'xa"b'), ('"a""b",c', json.dumps('a"b'))),
    ],
)  # fmt: skip
def test_a_sign_that_a_mark_has_parts_no_other_word_from_it(
    mark: str, of_others: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    assert not [text for text in of_others if Marks(mark).in_text(text) or names(mark, text)]
    assert [text for text in theirs if Marks(mark).in_text(text)] == list(theirs)


def test_a_number_is_an_id_behind_its_field_and_as_a_cell() -> None:
    for text in (
        '{"customer_id": "17850"}', '{"customer_id":17850}', r'{\"customer_id\": \"17850\"}', "CustomerID=17850.0",
        "customer_id = '17850'", "| 17850 | Ulm |",
    ):  # fmt: skip
        assert NUMBER.in_text(text), text
        assert NUMBER.without(text.encode(), "gone").decode() == text.replace("17850", "gone")
    for text in ("17850", "10:17:85 17850 ms", '{"amount": "17850"}', '{"customer_id": "178501"}', "|17850.5|"):
        assert not NUMBER.in_text(text), text


def test_files_are_searched_by_blocks_and_what_goes_away_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_proof, "_BLOCK", 64)
    monkeypatch.setattr(erasure_proof, "_OVERLAP", 32)
    monkeypatch.setattr(erasure_proof, "_LONGEST_SPELLING", 1)
    for size in range(0, 130, 3):
        (tmp_path / f"{size:03}").write_bytes(b"." * size + b"CUST-7" + b"." * 20 + b"CUST-77")
    assert in_files(tmp_path, MARKS) == {f"{size:03}": 1 for size in range(0, 130, 3)}
    # One that is longer than what is read at once.
    long = Marks("x" * 200)
    (tmp_path / "000").write_bytes(b"." * 50 + long.customer_id.encode() + b"." * 50)
    assert in_files(tmp_path, long) == {"000": 1}
    stop = threading.Event()

    def spool() -> None:
        while not stop.is_set():
            folder = tmp_path / "spool" / "1-a"
            folder.mkdir(parents=True)
            (folder / "x.parquet").write_bytes(b"x")
            (folder / "x.parquet").unlink()
            folder.rmdir()
            folder.parent.rmdir()

    busy = threading.Thread(target=spool)
    busy.start()
    try:
        for _ in range(100):
            list(files_of(tmp_path))
            in_files(tmp_path, Marks("none"))
    finally:
        stop.set()
        busy.join()


def test_cells_of_parquet_are_searched_where_its_bytes_hold_texts_in_pieces(tmp_path: Path) -> None:
    """What a load that was killed may leave; packed, an id that is like the one before it is a copy and an end."""
    ids = [f"CUST-{n}" for n in range(2_000)]
    for name, held in (("of them", ids), ("of others", [each for each in ids if each != "CUST-7"])):
        pq.write_table(pa.table({"id": held}), tmp_path / name, compression="zstd", use_dictionary=False)
    (tmp_path / "cut").write_bytes((tmp_path / "of others").read_bytes()[:-20])
    assert b"CUST-7\n" not in (tmp_path / "of them").read_bytes()
    found = in_files(tmp_path, Marks("CUST-7"))
    assert found == {"of them": 1, "cut, which is broken and could not be searched": 1}


def test_rows_of_a_database_are_scrubbed_where_its_bytes_have_texts_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute("create table events (id integer, customer text, body text)")
        body = json.dumps({"failing rows": "| 77 Straße Nowhere |"})
        connection.execute("insert into events values (1, 'CUST-7', 'Ann'), (2, 'CUST-77', ?)", [body])
        connection.commit()
    # Nothing in its bytes parts the id from the name.
    assert MARKS.pattern.search((folder / "runs.db").read_bytes().replace(body.encode(), b"")) is None
    (folder / "log").write_text("of CUST-7 and CUST-77")
    assert in_files(tmp_path, MARKS).keys() == {"dagster/log", "dagster/runs.db"}
    assert scrub([folder], MARKS, "gone") == ["dagster/log", "dagster/runs.db"]
    assert in_files(tmp_path, MARKS) == {} and scrub([folder], MARKS, "gone") == []
    assert (folder / "log").read_text() == "of gone and CUST-77"
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        rows = connection.execute("select customer, body from events order by id").fetchall()
        assert rows == [("gone", "Ann"), ("CUST-77", json.dumps({"failing rows": "| gone |"}))]


def test_a_database_at_which_another_is_at_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("create table events (customer text)")
        other.execute("insert into events values ('CUST-7')")
        kept = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **more: kept(*a, **(more | {"timeout": 0.05})))
        other.execute("begin immediate")
        with pytest.raises(
            ErasureError, match=r"runs\.db cannot be scrubbed: database is locked; stop what is at work"
        ):
            scrub([tmp_path], MARKS, "gone")
        other.execute("rollback")


def test_the_serving_store_is_searched_for_a_number_too(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/serving.sqlite")
    rows = [{"customer_id": "17850", "city": "Ulm"}, {"customer_id": "C2", "city": "17850"}]
    store.write(1, "b", [Change(Shape("customers", ("customer_id",)), rows, anew=True)])
    assert store.found(NUMBER.spellings, NUMBER.in_text, {"customer_id": "17850"}) == {"customers": 1}
    assert store.found((), NUMBER.in_text, {"customer_id": "1785"}) == {}
    store.close()
