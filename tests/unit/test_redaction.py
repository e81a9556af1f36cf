"""An object without a person: read again, it gives every other record as it was, and of theirs nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c360_assets.feeds import EventTime, Feed
from c360_assets.reading import Layout, read_object
from c360_assets.redaction import Naming, Unredactable, numbers_left, redacted
from c360_assets.spool import layout_of

COLUMNS = ("customer_id", "city", "note")
GONE, STANDS = "C1", "forgotten-0"


def feed(kind: str = "upsert", entity: str = "customer", columns: tuple[str, ...] = COLUMNS, **more: Any) -> Feed:
    return Feed(
        name="f", description="", prefix="f/", formats=("csv", "json", "parquet"), columns=columns,
        required=frozenset({"customer_id"}) & set(columns), kind=kind, entity=entity,
        event_time=EventTime(None, None, None, False, "UTC"), overwrite=None, delimiter=",", fresh_within_hours=None, events_within_hours=None, **({"base64": ()} | more),
    )  # fmt: skip


OWN, OTHER = feed(), feed(entity="shop_order")


def people(text: str) -> str | None:
    return STANDS if text == GONE else None


def records(data: bytes, form: str, layout: Layout) -> list[tuple[Any, ...]]:
    """Every record in its order: its values, or its text and why it is refused."""
    found: dict[int, tuple[Any, ...]] = {}
    for chunk in read_object(io.BytesIO(data), form, layout).chunks:
        found |= {row: values for row, *values in zip(chunk.rows, *chunk.values, strict=True)}
        # What parts a broken one from the next counts to it.
        found |= {refused.row: (refused.raw.rstrip(",] \r\n"), refused.reasons) for refused in chunk.refused}
    return [tuple(found[row]) for row in sorted(found)]


def without(before: list[tuple[Any, ...]], of: Feed) -> list[tuple[Any, ...]]:
    """What has to be left, from what was read."""
    left = []
    for record in before:
        if len(record) == 2 and isinstance(record[1], tuple):
            words = record[0].replace(",", " ").replace('"', " ").replace(":", " ").replace("}", " ").split()
            if GONE in words:
                continue
        elif (record[0] or "").strip() == GONE:
            if of.entity == "customer":
                continue
            record = (STANDS, *record[1:])
        left.append(record)
    return left


ids = st.sampled_from([GONE, " C1 ", "C10", "C2", "c1", "", "xC1"])
texts = st.text(st.sampled_from('ab,";:\n\r é{}[]'), max_size=6)


@st.composite
def csv_objects(draw: st.DrawFn) -> bytes:
    """Sound records, quoted ones, some that are broken, and blank lines."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    told = io.StringIO()
    writer = csv.writer(told, lineterminator=end)
    writer.writerow(draw(st.permutations(["Customer_ID", "city", "note", "more"])))
    width = 4
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["sound", "sound", "sound", "short", "blank", "raw"]))
        if kind == "blank":
            told.write(end)
        elif kind == "raw":
            told.write(
                draw(st.sampled_from([f'{GONE},"x{end}', f"{GONE},a,b,c,d,e{end}", f'C2,"a"b,c,d{end}', f"C2{end}"]))
            )
        else:
            row = [draw(st.one_of(ids, texts)) for _ in range(width if kind == "sound" else 2)]
            writer.writerow(row)
    data = told.getvalue().encode()
    data = data.removesuffix(end.encode()) if draw(st.booleans()) else data
    return b"\xef\xbb\xbf" + data if draw(st.booleans()) else data


@settings(max_examples=400, deadline=None)
@given(csv_objects(), st.sampled_from([OWN, OTHER]), st.booleans())
def test_csv_keeps_every_other_record(data: bytes, of: Feed, zipped: bool) -> None:
    _holds(gzip.compress(data) if zipped else data, "csv", of)


@st.composite
def json_objects(draw: st.DrawFn) -> bytes:
    parts = []
    for _ in range(draw(st.integers(0, 8))):
        document: dict[str, Any] = {
            draw(st.sampled_from(["customer_id", "CUSTOMER_ID"])): draw(ids),
            "city": draw(texts),
        }
        if draw(st.booleans()):
            document["deep"] = {"customer_id": draw(ids), "n": [1.10, None, True]}
        if draw(st.integers(0, 5)) == 0:
            del document[next(iter(document))]
        parts.append(json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))))
        if draw(st.integers(0, 5)) == 0:
            parts.append(
                draw(st.sampled_from(['{"customer_id": "C1", "city": ', '{"customer_id": C2}', "nonsense C2"]))
            )
    between = draw(st.sampled_from(["\n", ",", " "]))
    text = between.join(parts)
    return (f"[{text}]" if between == "," else text + draw(st.sampled_from(["", "\n"]))).encode()


@settings(max_examples=400, deadline=None)
@given(json_objects(), st.sampled_from([OWN, OTHER]))
def test_json_keeps_every_other_record(data: bytes, of: Feed) -> None:
    _holds(data, "json", of)


def _holds(data: bytes, form: str, of: Feed) -> None:
    layout = layout_of(of)
    naming = Naming.of(of)
    assert naming is not None
    before = records(data, form, layout)
    refused = [isinstance(record[1], tuple) for record in before]
    try:
        made = redacted(data, form, layout, naming, people)
    except Unredactable:
        # Behind a broken record, and without the one that followed, more would be taken for a part of it.
        assert any(refused)
        return
    after = records(made.data, form, layout)
    assert after == without(before, of)
    assert made.count == len(before) and len(before) - len(made.dropped) == len(after)
    if not made.dropped and not made.changed:
        plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        assert (gzip.decompress(made.data) if data[:2] == b"\x1f\x8b" else made.data) == plain


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ids, texts), max_size=8),
    st.sampled_from([OWN, OTHER]),
    st.sampled_from(["snappy", "zstd", "none"]),
)
def test_parquet_keeps_every_other_record(rows: list[tuple[str, str]], of: Feed, packed: str) -> None:
    table = pa.table({"customer_id": [i for i, _ in rows], "city": [c for _, c in rows], "when": [7] * len(rows)})
    out = io.BytesIO()
    pq.write_table(table, out, compression=packed)
    _holds(out.getvalue(), "parquet", of)


def test_a_number_in_parquet_becomes_the_text_that_a_pseudonym_needs() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"customer_id": [17850, 1785, None], "city": ["a", "b", "c"]}), out)
    naming = Naming.of(OTHER)
    assert naming is not None
    made = redacted(
        out.getvalue(), "parquet", layout_of(OTHER), naming, lambda text: STANDS if text == "17850" else None
    )
    assert [r[0] for r in records(made.data, "parquet", layout_of(OTHER))] == [STANDS, "1785", None]
    assert made.changed == [1] and b"17850" not in made.data


ENVELOPE = {"op": "u", "ts_ms": 5, "source": {"id": "C1"}}


@pytest.mark.parametrize(
    ("document", "goes"),
    [
        (ENVELOPE | {"before": {"id": "C1"}, "after": None}, True),
        (ENVELOPE | {"before": None, "after": {"customer_id": "C1"}}, True),
        ({"schema": {}, "payload": ENVELOPE | {"before": None, "after": {"id": "C1"}}}, True),
        (ENVELOPE | {"before": {"id": "C10"}, "after": {"id": "C10", "note": "C1"}}, False),
        (ENVELOPE | {"before": None, "after": {"id": 1}}, False),
    ],
)
def test_an_envelope_is_a_persons_by_its_rows_alone(document: dict[str, Any], goes: bool) -> None:
    of = feed("events", columns=("payload",), map={"customer_id": ("customer_id", "id")})
    naming = Naming.of(of)
    assert naming is not None
    other = json.dumps(ENVELOPE | {"before": None, "after": {"id": "C2"}})
    made = redacted(f"{json.dumps(document)}\nnull\n{other}\n".encode(), "json", layout_of(of), naming, people)
    assert made.dropped == ([1] if goes else []) and made.count == 3
    assert records(made.data, "json", layout_of(of))[-1][0] == other


def test_a_receipt_names_a_pseudonym_and_is_else_as_it_was() -> None:
    of = feed("lines", "pos_line", ("payload",), map={"customer_id": ("buyer.id",)}, strip={"customer_id": "[.]0$"})
    naming = Naming.of(of)
    assert naming is not None
    text = '{"total": 1.10, "buyer": {"id": "C1.0"}, "items": [{"id": "C1"}]}'
    made = redacted(text.encode(), "json", layout_of(of), naming, people)
    assert json.loads(made.data) == {"total": 1.1, "buyer": {"id": STANDS}, "items": [{"id": "C1"}]}
    assert b'"total":1.10' in made.data and naming.payload(text, people) == made.data.decode()


def test_an_event_is_of_whom_its_first_field_with_something_names() -> None:
    """As in clean: a customer 5 whose row has the id 7 is not customer 7."""
    of = feed("events", columns=("payload",), map={"customer_id": ("customer_id", "id")})
    naming = Naming.of(of)
    assert naming is not None
    other = json.dumps(ENVELOPE | {"before": None, "after": {"id": "C1", "customer_id": "C5"}})
    moved = json.dumps(ENVELOPE | {"before": {"id": "C1"}, "after": {"id": "C5"}})
    gone = json.dumps(ENVELOPE | {"op": "d", "before": {"id": "C1", "customer_id": ""}, "after": None})
    made = redacted("\n".join([other, moved, gone]).encode(), "json", layout_of(of), naming, people)
    assert made.dropped == [3]


@pytest.mark.parametrize(
    ("customer", "line", "goes"),
    [
        ("12", "C8,2026-01-02T10:12:05Z,12.50,12,12", False),  # any number may be a 12
        ("12", '12,"a"b,c', True),  # but where the id stands
        ("C12", "C8,C12,c,d,e", True),
        ("urn:cust:7", "urn:cust:7,b,c,d,e", True),
        ("O'Neil-3", "O'Neil-3,b", True),
        ("C1", "C12,xC1,C1x,d,e", False),
        ("Straße-1", '{"customer_id": "Stra\\u00dfe-1", "broken', True),
        ("Straße-1", '{"note": "\\nStra\\u00DFe-1", "broken', True),
        ('a"b', '"a""b",b,c,d,e', True),  # a quote twice, as CSV has it
        ('a"b', 'C8,"a""b",c,d,e', True),
        ('a"b', '{"customer_id": "a\\"b", "broken', True),
        ("Lee, Ann", '"Lee, Ann",b,c,d,e', True),
        ("Lee, Ann", '{"id": ["Lee, Ann"], "a", "broken', True),
        ("Lee, Ann", "Lee, Anna,b,c,d", False),
        ("lee@x.org", "lee@x.org,b,c,d,e", True),
        ("lee@x.org", '"ann.lee@x.org",lee@x.org.uk,c,d,e', False),
        ("urn:7", "urn:7:b,b,c,d,e", False),
    ],
)
def test_of_a_refused_record_who_it_names(customer: str, line: str, goes: bool) -> None:
    naming = Naming.of(OTHER)
    assert naming is not None
    data = f"customer_id,city,note\n{line}\nC8,a,b\n".encode()
    made = redacted(data, "csv", layout_of(OTHER), naming, lambda text: STANDS if text == customer else None)
    assert made.dropped == ([1] if goes else [])


@pytest.mark.parametrize(
    ("customer", "value", "goes"),
    [
        ("17850", b"17850", True),  # a key of Kafka's
        ("17850", b" 17850\n", True),
        ("17850", b'{"amount": 17850, broken', False),
        ("17850", b'{"customer_id": 17850, broken', True),
        ("C1", gzip.compress(b'{"customer_id":"C1", broken', mtime=0), True),
        ("C1", gzip.compress(b'{"customer_id":"C1", broken', mtime=0)[:-9], True),  # cut
        ("C1", gzip.compress(b'{"customer_id":"C11", broken', mtime=0), False),
        ("C1", gzip.compress(b"x", mtime=0) + gzip.compress(b'{"customer_id":"C1", broken', mtime=0), True),
        ("C1", b"\x00\x00\x00\x00\x07\x04C1\x06Ulm", True),  # Avro: a word behind twice its length
        ("C1", b"\x0a\x02C1J\x03Ulm", True),  # Protobuf: behind its length, and before what looks like a letter
        ("C1", b"\x0a\x03C11J\x03Ulm", False),
        ("C1", b"C1J", False),
    ],
)
def test_of_bytes_that_may_be_anything_who_they_name(customer: str, value: bytes, goes: bool) -> None:
    letters = replace(
        feed(entity="", columns=("payload",), base64=("value_base64",)), entity=None, required=frozenset()
    )
    naming = Naming.of(letters)
    assert naming is not None
    text = json.dumps({"position": "1", "value_base64": b64encode(value).decode()})
    made = redacted(
        text.encode(), "json", layout_of(letters), naming, lambda told: STANDS if told == customer else None
    )
    assert made.dropped == ([1] if goes else [])


def test_feeds_that_name_nobody_are_left_alone() -> None:
    assert Naming.of(feed(entity="product", columns=("product_id", "price"))) is None


def test_records_move_up_behind_those_that_went() -> None:
    assert list(numbers_left(5, [2, 4])) == [(3, 2), (5, 3)]


def test_a_record_whose_base64_names_the_person_goes() -> None:
    letters = feed(entity="", columns=("payload",), base64=("value_base64", "key_base64"))
    letters = replace(letters, entity=None, required=frozenset())
    naming = Naming.of(letters)
    assert naming is not None

    def letter(position: int, value: bytes | None, key: bytes | None = None) -> str:
        told = {"position": str(position), "reason": "not_json"}
        for name, data in (("value_base64", value), ("key_base64", key)):
            told[name] = None if data is None else b64encode(data).decode()  # type: ignore[assignment]
        return json.dumps(told)

    kept = [letter(1, b'{"customer_id": "C11", broken'), letter(3, None), letter(5, b"\xff\xfe\x00")]
    gone = [letter(2, b'{"customer_id":"C1", broken'), letter(4, None, b"C1"), letter(6, b"\xff, C1")]
    lines = [line for pair in zip(kept, gone, strict=True) for line in pair]
    made = redacted("\n".join([*lines, ""]).encode(), "json", layout_of(letters), naming, people)
    assert made.dropped == [2, 4, 6]
    assert made.data.decode().split() == "\n".join(kept).split()
