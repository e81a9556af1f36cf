"""Reading: what becomes of the bytes of one object, whatever is wrong with them."""

import csv
import datetime
import gzip
import io
import json
import time
import tracemalloc
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c360_assets.reading import CHUNK_ROWS, Layout, Reading, Refused, Unreadable, format_of, read_object
from c360_assets.reading_csv import AHEAD_LINES

CUSTOMERS = Layout(("customer_id", "name"), frozenset({"customer_id"}))
PAYLOAD = Layout(("payload",), frozenset(), payload=True)
HEADER = b"customer_id,name\n"
SMALL_BLOCKS = (1, 2, 3, 7, 64)


class Account(NamedTuple):
    accepted: list[tuple[Any, ...]]  # row, then the values, _extra last
    refused: list[Refused]
    present: frozenset[str]
    unknown: frozenset[str]

    @property
    def reasons(self) -> list[tuple[int, tuple[str, ...]]]:
        return [(refused.row, refused.reasons) for refused in self.refused]


def account(data: bytes, format: str = "csv", layout: Layout = CUSTOMERS, **sizes: int) -> Account:
    reading = read_object(io.BytesIO(data), format, layout, **sizes)
    accepted: list[tuple[Any, ...]] = []
    refused: list[Refused] = []
    for chunk in reading.chunks:
        assert {len(values) for values in chunk.values} == {len(chunk.rows)}
        assert len(chunk.values) == len(layout.columns) + 1
        assert 0 < len(chunk.rows) + len(chunk.refused) <= sizes.get("chunk_rows", CHUNK_ROWS)
        accepted += zip(chunk.rows, *chunk.values, strict=True)
        refused += chunk.refused
    ordinals = sorted([row[0] for row in accepted] + [row.row for row in refused])
    assert ordinals == list(range(1, len(ordinals) + 1))
    return Account(accepted, refused, reading.present, reading.unknown)


def every_way(data: bytes, format: str = "csv", layout: Layout = CUSTOMERS) -> Account:
    """The account of an object, which must not depend on where blocks and chunks end."""
    whole = account(data, format, layout)
    for size in SMALL_BLOCKS:
        assert account(data, format, layout, block_bytes=size, chunk_rows=3) == whole
    return whole


def csv_bytes(rows: list[list[str]], end: str = "\n") -> bytes:
    out = io.StringIO(newline="")
    # Some versions of the writer leave a carriage return unquoted, which then cannot be told from the end of a line.
    if any("\r" in value for row in rows for value in row):
        csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    else:
        csv.writer(out, lineterminator=end).writerows(rows)
    return out.getvalue().encode()


# Objects


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("customers/customer_20261121074800.csv", "csv"),
        ("a.CSV.GZ", "csv"),
        ("a.json", "json"),
        ("a.jsonl.gz", "json"),
        ("a.ndjson", "json"),
        ("a.parquet", "parquet"),
        ("pos/2026/11/21/04/stream-1-2026-11-21-04-00-00-0f", None),
        ("a.csv.zip", None),
        ("csv", None),
    ],
)
def test_format_is_told_by_the_ending_of_the_name(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_unknown_format_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="'xml' is not known; there are: csv, json, parquet"):
        read_object(io.BytesIO(b""), "xml", CUSTOMERS)


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_empty_object_gives_nothing(format: str) -> None:
    assert account(b"", format) == ([], [], frozenset(), frozenset())


def test_gzip_is_told_by_its_bytes_and_may_have_several_members() -> None:
    plain = HEADER + b"1,Ann\n2,Bob\n"
    packed = gzip.compress(plain[:20]) + gzip.compress(b"") + gzip.compress(plain[20:]) + b"\0\0\0"
    assert every_way(packed) == every_way(plain)
    assert every_way(gzip.compress(b"")).accepted == []


@pytest.mark.parametrize("format", ["csv", "json"])
@pytest.mark.parametrize("damage", ["cut", "cut in the trailer", "flipped", "trailing garbage", "only the magic"])
def test_broken_gzip_makes_the_object_unreadable(format: str, damage: str) -> None:
    packed = bytearray(gzip.compress(HEADER + b"".join(b"%d,x%d\n" % (i, i * i) for i in range(5000))))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    elif damage == "cut in the trailer":
        del packed[-1]
    elif damage == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    elif damage == "trailing garbage":
        packed += b"garbage"
    else:
        del packed[2:]
    for size in (1, 100, 1 << 20):
        with pytest.raises(Unreadable, match="write the object again") as error:
            account(bytes(packed), format, block_bytes=size)
        assert error.value.reason == "broken_gzip"


def test_chunks_before_a_cut_in_gzip_were_yielded() -> None:
    packed = gzip.compress(HEADER + b"".join(b"%d,x\n" % i for i in range(5000)))[:-1]
    chunks = read_object(io.BytesIO(packed), "csv", CUSTOMERS, block_bytes=500, chunk_rows=10).chunks
    assert next(chunks).rows == list(range(1, 11))
    with pytest.raises(Unreadable):
        list(chunks)


class Endless(io.RawIOBase):
    """The same bytes again and again, up to a size, without holding them."""

    def __init__(self, head: bytes, part: bytes, times: int) -> None:
        self._parts = iter([head, *[part] * times])

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return next(self._parts, b"")


@pytest.mark.parametrize("format", ["csv", "csv without a line end", "json", "json without sense"])
def test_memory_does_not_grow_with_the_object(format: str) -> None:
    head, part = {
        "csv": (HEADER, (b"1234567," + b"x" * 200 + b"\n") * 2_000),
        "csv without a line end": (HEADER, b"x" * 400_000),
        "json": (b"", b'{"payload": "' + b"x" * 4000 + b'"}\n'),
        "json without sense": (b"", b"[" * 400_000),
    }[format]
    times = (40_000_000 if format == "csv" else 60_000_000) // len(part)
    stream = cast(BinaryIO, Endless(head, part, times))
    layout = CUSTOMERS if format.startswith("csv") else PAYLOAD
    tracemalloc.start()
    try:
        for _ in read_object(stream, format.partition(" ")[0], layout, chunk_rows=10_000).chunks:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (30 << 20 if format == "csv" else 120 << 20)


# CSV


def test_header_names_match_whatever_their_case_blanks_and_order() -> None:
    result = every_way(b"\xef\xbb\xbf NAME ,Customer_ID\r\nAnn,1\r\n")
    assert result.accepted == [(1, "1", "Ann", None)]
    assert result.present == {"customer_id", "name"}


def test_unknown_columns_go_to_extra_and_are_reported() -> None:
    result = every_way('customer_id, Größe ,x\n1,"5\'6""",\n'.encode())
    assert result.accepted == [(1, "1", None, '{"größe":"5\'6\\"","x":null}')]
    assert (set(result.present), set(result.unknown)) == ({"customer_id"}, {"größe", "x"})


def test_empty_field_quoted_or_not_is_null_and_all_else_is_as_received() -> None:
    result = every_way(HEADER + b'1,\n2,""\n3,  Ann \n4,"a,b"\n5,a\rb\n6,5\'6" tall\n7,""""\n')
    assert [row[2] for row in result.accepted] == [None, None, "  Ann ", "a,b", "a\rb", "5'6\" tall", '"']
    assert not result.refused


def test_blank_lines_are_no_records() -> None:
    assert [row[:2] for row in every_way(b"\n\r\n" + HEADER + b"\n1,a\n\r\n\n2,b\n\n").accepted] == [(1, "1"), (2, "2")]
    one = Layout(("customer_id",), frozenset())
    assert every_way(b'customer_id\n1\n\n""\n', layout=one).accepted == [(1, "1", None), (2, None, None)]


def test_header_only_gives_no_records() -> None:
    for data in (HEADER, HEADER.strip(), HEADER + b"\n\n"):
        result = every_way(data)
        assert (result.accepted, result.refused) == ([], [])
        assert result.present == {"customer_id", "name"}


def test_another_delimiter_is_the_feeds_to_declare() -> None:
    layout = Layout(("customer_id", "name"), frozenset({"customer_id"}), delimiter=";")
    assert every_way(b'customer_id;name\n1;a,b\n2;"a;b"\n', layout=layout).accepted == [
        (1, "1", "a,b", None),
        (2, "2", "a;b", None),
    ]


def test_too_many_or_too_few_fields_refuse_only_the_row() -> None:
    result = every_way(HEADER + b'1,a\n2\r\n3,b,c\n4,"d",\n5,e')
    assert [row[0] for row in result.accepted] == [1, 5]
    assert result.refused == [
        Refused(2, "2", ("too_few_fields",)),
        Refused(3, "3,b,c", ("too_many_fields",)),
        Refused(4, '4,"d",', ("too_many_fields",)),
    ]


def test_header_repeated_as_data_refuses_the_row() -> None:
    result = every_way(HEADER + b'1,a\n"Customer_Id", name \nname,customer_id\n2,customer_id\n')
    assert result.refused == [Refused(2, '"Customer_Id", name ', ("header_repeated",))]
    assert [row[1] for row in result.accepted] == ["1", "name", "2"]


def test_bytes_that_are_no_utf8_refuse_only_the_row_they_stand_in() -> None:
    result = every_way(HEADER + "1,a\n2,Zoë\n".encode() + b'3,Zo\xeb\n4,"x\n\xff"\n5,\xc3\n6,b,\xff\n7,c\n')
    assert [row[1:3] for row in result.accepted] == [("1", "a"), ("2", "Zoë"), ("7", "c")]
    assert result.refused == [
        Refused(3, "3,Zo\\xeb", ("not_utf8",)),
        Refused(4, '4,"x\n\\xff"', ("not_utf8",)),
        Refused(5, "5,\\xc3", ("not_utf8",)),
        Refused(6, "6,b,\\xff", ("too_many_fields", "not_utf8")),
    ]


def test_quoted_field_may_hold_line_breaks_quotes_and_delimiters() -> None:
    result = every_way(HEADER + b'1,"a\n\nb\r\n""c"", d"\r\n2,x\n')
    assert result.accepted == [(1, "1", 'a\n\nb\r\n"c", d', None), (2, "2", "x", None)]


def test_stray_quote_refuses_only_up_to_the_next_sound_line() -> None:
    result = every_way(HEADER + b'1,a\n2,"b\n3\n\n4,"c,d\n5,e\n6,f\n')
    assert [row[1] for row in result.accepted] == ["1", "5", "6"]
    assert result.refused == [Refused(2, '2,"b\n3\n\n4,"c,d', ("open_quote",))]


def test_quote_that_never_closes_costs_no_row_that_is_sound_by_itself() -> None:
    result = every_way(HEADER + b'1,"a\n' + b"".join(b"%d,x\n" % i for i in range(2, 50)))
    assert result.refused == [Refused(1, '1,"a', ("open_quote",))]
    assert len(result.accepted) == 48


def test_text_behind_a_closing_quote_is_a_stray_quote() -> None:
    assert every_way(HEADER + b'1,"a" b\n2,"c"d,e\n3,f\n').refused == [Refused(1, '1,"a" b\n2,"c"d,e', ("open_quote",))]


def test_quoted_lines_with_the_wrong_number_of_fields_are_a_stray_quote() -> None:
    result = every_way(HEADER + b'1,"a\n2,b",c\n3,d\n4,e\n"5\n",f,g\n"h"\n6,i\n')
    assert result.refused == [
        Refused(1, '1,"a\n2,b",c', ("open_quote",)),
        Refused(4, '"5\n",f,g\n"h"', ("open_quote",)),
    ]


def test_quoted_lines_with_too_few_fields_are_a_stray_quote() -> None:
    result = every_way(HEADER + b'"1\n2"\n3,c\n')
    assert result.refused == [Refused(1, '"1\n2"', ("open_quote",))]


def test_quoted_field_beyond_reach_is_a_stray_quote() -> None:
    for lines, is_sound in ((AHEAD_LINES, True), (AHEAD_LINES + 1, False)):
        data = HEADER + b'1,"' + b"\n" * lines + b'"\n2,b\n'
        for size in (1 << 12, 1 << 20):
            assert (account(data, block_bytes=size).refused == []) is is_sound
    for chars, is_sound in (((1 << 20) - 4, True), (1 << 20, False)):
        data = HEADER + b'1,"\n' + b"x" * chars + b'"\n2,b\n'
        for size in (1 << 16, 1 << 22):
            assert (account(data, block_bytes=size).refused == []) is is_sound


def test_long_field_on_one_line_is_sound() -> None:
    data = HEADER + b'1,"' + b"x" * (3 << 20) + b'"\n2,b\n'
    assert [len(row[2]) for row in account(data).accepted] == [3 << 20, 1]


def test_line_without_end_is_refused_with_what_fits() -> None:
    result = account(HEADER + b"1,a\n2," + b"x" * (17 << 20) + b"\n3,c\n")
    assert [row[:2] for row in result.accepted] == [(1, "1"), (3, "3")]
    assert [(row.row, len(row.raw), row.reasons) for row in result.refused] == [(2, 16 << 20, ("line_too_long",))]


def test_missing_required_column_refuses_every_row_with_all_its_defects() -> None:
    layout = Layout(("customer_id", "name", "op"), frozenset({"customer_id", "op"}))
    result = every_way(b'name\na\nb,c\n"d\n', layout=layout)
    missing = ("missing_column:customer_id", "missing_column:op")
    assert result.reasons == [(1, missing), (2, (*missing, "too_many_fields")), (3, (*missing, "open_quote"))]
    assert result.accepted == []


def test_duplicate_header_name_refuses_every_row() -> None:
    result = every_way(b"customer_id,name, NAME\n1,a,b\n2,c\n")
    assert result.reasons == [(1, ("duplicate_column:name",)), (2, ("duplicate_column:name", "too_few_fields"))]


def test_header_that_cannot_be_told_makes_the_object_unreadable() -> None:
    with pytest.raises(Unreadable, match="land the object again") as error:
        account(b'"customer_id,name\n1,a\n')
    assert error.value.reason == "broken_header"


def test_chunks_have_bounded_size_whatever_the_records() -> None:
    rows = CHUNK_ROWS + 10
    result = account(HEADER + b"".join(b"%d,x\n" % i if i % 1000 else b"%d\n" % i for i in range(rows)))
    assert (len(result.accepted) + len(result.refused), len(result.refused)) == (rows, 51)


FIELD = st.text(st.one_of(st.sampled_from('",\n\r aé'), st.characters(exclude_categories=["Cs"])), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    size=st.sampled_from([*SMALL_BLOCKS, 1 << 20]),
)
def test_what_csv_writes_reads_back_exactly(rows: list[tuple[str, str]], end: str, size: int) -> None:
    result = account(csv_bytes([["customer_id", "name"], *map(list, rows)], end), block_bytes=size, chunk_rows=5)
    expected = [(i, a or None, b or None, None) for i, (a, b) in enumerate(rows, 1)]
    repeated = [i for i, row in enumerate(rows, 1) if [v.strip().casefold() for v in row] == ["customer_id", "name"]]
    assert result.accepted == [row for row in expected if row[0] not in repeated]


PIECE = st.sampled_from(
    [b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b"1,b\n", b'2,"c"\n', b'3,"d\ne"\n', b"\xff", "é".encode(), HEADER]
)


@settings(max_examples=250, deadline=None)
@given(
    pieces=st.lists(PIECE, max_size=30), size=st.integers(1, 40), names=st.sampled_from([b"customer_id,name", b"name"])
)
def test_account_of_any_csv_does_not_depend_on_blocks(pieces: list[bytes], size: int, names: bytes) -> None:
    data = names + b"\n" + b"".join(pieces)
    whole = account(data)
    assert account(data, block_bytes=size, chunk_rows=2) == whole
    # A byte that is no UTF-8 in front keeps the fast way off, and must change nothing else.
    walked = account(names + b"\n\xff\n" + b"".join(pieces))
    assert [row[1:] for row in walked.accepted] == [row[1:] for row in whole.accepted]
    assert [(row.raw, row.reasons) for row in walked.refused[1:]] == [(row.raw, row.reasons) for row in whole.refused]


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(PIECE.filter(lambda piece: b"\xff" not in piece), max_size=30))
def test_no_text_of_a_csv_object_is_lost(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    result = account(HEADER + data)
    kept = "".join(["".join(filter(None, row[1:])) for row in result.accepted] + [row.raw for row in result.refused])
    for char in "abcde123é":
        assert kept.count(char) == data.decode().count(char)


def test_stray_quotes_without_number_take_linear_time() -> None:
    started = time.perf_counter()
    result = account(HEADER + b'1,"a\n2,b\n' * 30_000 + b'1,"a\n' * 30_000)
    assert len(result.accepted) == 30_000
    assert time.perf_counter() - started < 5


# JSON


def values(text: str, layout: Layout = CUSTOMERS) -> list[tuple[Any, ...]]:
    result = every_way(text.encode(), "json", layout)
    assert not result.refused
    return result.accepted


@pytest.mark.parametrize(
    "text",
    [
        '{"customer_id":"1"}\n{"customer_id":"2"}\n',
        '{"customer_id":"1"}{"customer_id":"2"}',
        '\ufeff \n{"customer_id":"1"}\r\n\r\n\t{"customer_id":"2"}',
        '[{"customer_id":"1"},\n {"customer_id":"2"}]\n',
        '{\n  "customer_id": "1"\n} {\n  "customer_id": "2"\n}',
    ],
)
def test_objects_come_by_line_one_after_another_or_in_an_array(text: str) -> None:
    assert values(text) == [(1, "1", None, None), (2, "2", None, None)]


@pytest.mark.parametrize(
    ("given_as", "text"),
    [
        ('"a "', "a "),
        ('""', ""),
        ("1.0", "1.0"),
        ("1e5", "1e5"),
        ("1234567890123456789", "1234567890123456789"),
        ("9" * 5000, "9" * 5000),
        ("true", "true"),
        ("null", None),
        ('{ "b" : [1.50, null, "é"], "b": {} }', '{"b":[1.50,null,"é"],"b":{}}'),
        ("[]", "[]"),
    ],
)
def test_json_value_becomes_text_as_it_is_written(given_as: str, text: str | None) -> None:
    assert values(f'{{"customer_id": 1, " NAME ": {given_as}}}') == [(1, "1", text, None)]


def test_unknown_fields_keep_their_types_in_extra() -> None:
    result = every_way(
        b'{"customer_id":1,"Score ":1.0,"tags":["a", 2]}{"customer_id":2}{"customer_id":3,"x":null}', "json"
    )
    assert [row[3] for row in result.accepted] == ['{"score":1.0,"tags":["a",2]}', None, '{"x":null}']
    assert (set(result.present), set(result.unknown)) == ({"customer_id"}, {"score", "tags", "x"})


@pytest.mark.parametrize("block", [1, 3, 7, 65536])
def test_a_null_is_a_record_where_tombstones_may_come_and_broken_where_not(block: int) -> None:
    body = b'{"a":1}\nnull\n{"a":2}null\n[]nullx'
    stream = Layout(("payload",), frozenset(), payload=True, tombstones=True)
    rows, refused = _read(body, stream, block)
    assert rows == [(1, '{"a":1}'), (2, "null"), (3, '{"a":2}'), (4, "null")]
    assert [(r.row, r.raw) for r in refused] == [(5, "[]nullx")]
    rows, refused = _read(body, PAYLOAD, block)
    assert [text for _, text in rows] == ['{"a":1}', '{"a":2}'] and len(refused) == 2


def _read(body: bytes, layout: Layout, block: int) -> tuple[list[tuple[int, str | None]], list[Refused]]:
    chunks = list(read_object(io.BytesIO(body), "json", layout, block_bytes=block).chunks)
    return [(n, v) for c in chunks for n, v in zip(c.rows, c.values[0], strict=True)], [
        r for c in chunks for r in c.refused
    ]


def test_payload_is_the_exact_text_of_the_record() -> None:
    records = ['{"a" :1.0,\n "b":[ ]}', "{}", '{"é":"\\u00e9\\ud83d\\ude00"}']
    assert [row[1] for row in values(" ".join(records), PAYLOAD)] == records


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"a":[{"b":"\\ud800"}]}', "lone_surrogate"),
        ('{"\\udc00":1}', "lone_surrogate"),
        ('{"a":{"b":1,"c":2,"b":3}}', "duplicate_column:b"),
        ('{"a":[[{"b":{"c":1,"c":1}}]]}', "duplicate_column:c"),
    ],
)
def test_a_payload_that_nothing_after_us_could_read_is_refused(record: str, reason: str) -> None:
    result = every_way(f'{{"x":1}}{record}{{"x":2}}'.encode(), "json", PAYLOAD)
    assert [row[1] for row in result.accepted] == ['{"x":1}', '{"x":2}']
    assert result.refused == [Refused(2, record, (reason,))]


def test_broken_json_is_one_refused_row_up_to_the_next_object_that_parses() -> None:
    result = every_way(b'{"customer_id":1}{"customer_id":2,"name":}\n{"customer_id":3}', "json")
    assert [row[:2] for row in result.accepted] == [(1, "1"), (3, "3")]
    assert result.refused == [Refused(2, '{"customer_id":2,"name":}', ("broken_json",))]


@pytest.mark.parametrize(
    "broken",
    [
        '{"customer_id":2',
        '{"customer_id":2,',
        '{"customer_id":2,"name":',
        '{"customer_id":2,"name":"abc',
        '{"customer_id":2,"name":"abc"',
        '{"customer_id":2,"tags":[',
        '{"customer_id":2,"tags":[{"a":{}},{"b":1},{"c":',
        '{"customer_id":NaN}',
        '{"customer_id":2}}',
        "null",
        "12, true",
        "]",
        "{{{",
        '{"note":"{","x"}',
    ],
)
@pytest.mark.parametrize("between", ["", "\n"])
def test_break_costs_no_neighbour(broken: str, between: str) -> None:
    data = between.join(['{"customer_id":1}', broken, '{"customer_id":3,"name":"x"}', '{"customer_id":4}'])
    result = every_way(data.encode(), "json")
    ids = [row[1] for row in result.accepted]
    assert ids == (["1", "2", "3", "4"] if broken.endswith("}}") else ["1", "3", "4"])
    assert [row.reasons for row in result.refused] == [("broken_json",)]


def test_object_nested_in_a_broken_one_is_no_record() -> None:
    broken = '{"id":1,"items":[{"p":1},{"p":2}],oops}'
    result = every_way(f'{{"id":0}}{broken}{{"id":2}}'.encode(), "json", PAYLOAD)
    assert [row[1] for row in result.accepted] == ['{"id":0}', '{"id":2}']
    assert result.refused == [Refused(2, broken, ("broken_json",))]


def test_cut_last_object_is_one_refused_row_wherever_it_is_cut() -> None:
    last = '{"id":2,"items":[{"p":1,"n":"{}"},{"p":2}],"x":{"y":-1.5e3,"z":true}}'
    for cut in range(1, len(last)):
        for opening in ("", "["):
            data = f'{opening}{{"id":1}}{"," if opening else " "}{last[:cut]}'.encode()
            result = account(data, "json", PAYLOAD)
            assert [row[1] for row in result.accepted] == ['{"id":1}']
            assert result.refused == [Refused(2, last[:cut], ("broken_json",))]


def test_comma_that_separates_nothing_is_broken_json() -> None:
    result = every_way(b'[,{"customer_id":1},,{"customer_id":2},]', "json")
    assert [row[:2] for row in result.accepted] == [(2, "1"), (4, "2")]
    assert [row.raw for row in result.refused] == [",", ","]


def test_record_on_its_own_line_survives_a_cut_before_it() -> None:
    result = every_way(b'{"customer_id":1,"name":\n{"customer_id":2}\n', "json")
    assert [row[:2] for row in result.accepted] == [(2, "2")]


def test_bytes_that_are_no_utf8_refuse_only_the_object_they_stand_in() -> None:
    result = every_way(b'{"customer_id":"1"}{"customer_id":"\xff"}\xfe{"customer_id":"\xc3\xa9"}', "json")
    assert [row[:2] for row in result.accepted] == [(1, "1"), (4, "é")]
    assert result.refused == [
        Refused(2, '{"customer_id":"\\xff"}', ("not_utf8",)),
        Refused(3, "\\xfe", ("broken_json", "not_utf8")),
    ]


def test_record_without_a_required_column_or_with_one_twice_is_refused() -> None:
    result = every_way(b'{"name":"a"}{"customer_id":1,"CUSTOMER_ID ":2}{"x":1,"X":2,"customer_id":null}', "json")
    assert result.reasons == [
        (1, ("missing_column:customer_id",)),
        (2, ("duplicate_column:customer_id",)),
        (3, ("duplicate_column:x",)),
    ]
    assert every_way(b'{"customer_id":null}', "json").accepted == [(1, None, None, None)]


def test_half_a_surrogate_pair_is_refused_where_it_would_be_stored() -> None:
    result = every_way(
        b'{"customer_id":"\\ud83d"}{"customer_id":"\\ud83d\\ude00","\\ud800":1}{"customer_id":1}', "json"
    )
    assert result.reasons == [(1, ("lone_surrogate",)), (2, ("lone_surrogate",))]
    assert result.unknown == {"\\ud800"}


def test_object_nested_beyond_all_measure_is_broken() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    result = account(b'{"customer_id":1}' + deep + b'{"customer_id":2}', "json")
    assert [row[:2] for row in result.accepted] == [(1, "1"), (3, "2")]
    assert [row.raw for row in result.refused] == [deep.decode()]


def test_object_beyond_sixteen_mebibytes_is_broken() -> None:
    frame = len(b'{"customer_id":""}')
    for chars, is_sound in ((16 << 20, True), ((16 << 20) + 1, False)):
        data = b'{"customer_id":"' + b"x" * (chars - frame) + b'"}{"customer_id":1}'
        for size in (1 << 16, 1 << 25):
            result = account(data, "json", block_bytes=size)
            assert result.accepted[-1][:2] == (2, "1")
            assert result.reasons == ([] if is_sound else [(1, ("broken_json",))])


@pytest.mark.parametrize(
    "part",
    [
        b"{",
        b"[",
        b'{"a":',
        b'{"',
        b'{"a":[',
        b'{"a":"{',
        b'"{":',
        b'{"a":{"b":1},',
        b'\n{"a":1,',
        b'{"a":1}x',
        b"{} ",
        b"\\",
    ],
)
def test_broken_json_of_any_kind_takes_linear_time(part: bytes) -> None:
    started = time.perf_counter()
    account(part * (300_000 // len(part)) + b"!", "json")
    assert time.perf_counter() - started < 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "{", '"']), JSON, max_size=4), max_size=6),
    between=st.sampled_from(["", " ", "\n", "\r\n\t", "\n\n"]),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    size=st.sampled_from([*SMALL_BLOCKS, 1 << 20]),
)
def test_objects_read_back_exactly_whatever_stands_between(
    records: list[dict[str, Any]], between: str, indent: int | None, ascii_only: bool, size: int
) -> None:
    texts = [json.dumps(record, indent=indent, ensure_ascii=ascii_only) for record in records]
    for data in (between.join(texts), f"[{between}{f',{between}'.join(texts)}{between}]"):
        result = account(data.encode(), "json", PAYLOAD, block_bytes=size)
        assert [row[1] for row in result.accepted] == texts
    columns = account(between.join(texts).encode(), "json", Layout((), frozenset()), block_bytes=size)
    assert [json.loads(row[1] or "{}") for row in columns.accepted] == records


JSON_PIECE = st.one_of(
    st.sampled_from([bytes([char]) for char in b'{}[],:"1- \n\t\\\xff']),
    st.sampled_from([b'"a"', b'"b":', b"null", b"NaN", b"tru", b"1.", b"e5", b"01", b"\\u00", "é".encode()]),
    st.sampled_from([b'{"a":1}', b'{"b":{"c":2}}\n', b'{"d":[{}']),
)


@settings(max_examples=250, deadline=None)
@given(pieces=st.lists(JSON_PIECE, max_size=25), size=st.integers(1, 40))
def test_account_of_any_json_does_not_depend_on_blocks(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    for layout in (PAYLOAD, Layout(("a", "b"), frozenset())):
        whole = account(data, "json", layout)
        assert account(data, "json", layout, block_bytes=size, chunk_rows=2) == whole
        # After a break objects are scanned before they are decoded: the two must agree on what an object is.
        careful = account(b"x " + data.lstrip(b" \n\t["), "json", layout) if data[:1] == b"{" else None
        if careful and whole.accepted and whole.accepted[0][0] == 1:
            assert [row[1:] for row in careful.accepted] == [row[1:] for row in whole.accepted]


# Parquet


def parquet(columns: dict[str, pa.Array]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array(["a "]), "a "),
        (pa.array([""]), ""),
        (pa.array([1234567890123456789]), "1234567890123456789"),
        (pa.array([True]), "true"),
        (pa.array([1.0]), "1.0"),
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([Decimal("0.0000001")]), "0.0000001"),
        (pa.array([Decimal("12.50")]), "12.50"),
        (pa.array([datetime.date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5)]), "2026-01-02T03:04:05"),
        (pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5, 60)]), "2026-01-02T03:04:05.000060"),
        (
            pa.array([datetime.datetime(2026, 1, 2, 3, tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin")),
            "2026-01-02T03:00:00Z",
        ),
        (pa.array([1_500_000_999], pa.timestamp("ns", "UTC")), "1970-01-01T00:00:01.500000Z"),
        (pa.array([datetime.time(1, 2, 3)]), "01:02:03"),
        (pa.array(["é".encode()]), "é"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([[1, None]]), "[1,null]"),
        (pa.array([{"b": [Decimal("1.50")], "c": float("nan"), "d": "x"}]), '{"b":[1.50],"c":"nan","d":"x"}'),
        (pa.array([[("k", True)]], pa.map_(pa.string(), pa.bool_())), '{"k":true}'),
        (pa.array([[1.5, 2]], pa.list_(pa.float64(), 2)), "[1.5,2.0]"),
    ],
)
def test_parquet_values_become_canonical_text_and_null_stays_null(array: Any, text: str) -> None:
    column = pa.concat_arrays([array, pa.nulls(1, array.type), array])
    result = account(parquet({"Customer_ID": pa.array(["1", "2", "3"]), "name": column}), "parquet")
    assert [row[2] for row in result.accepted] == [text, None, text]


def test_parquet_accounts_for_columns_as_csv_does() -> None:
    result = account(parquet({"customer_id": pa.array([1, 2]), "Score": pa.array([1.5, None])}), "parquet")
    assert result.accepted == [(1, "1", None, '{"score":1.5}'), (2, "2", None, '{"score":null}')]
    assert (set(result.present), set(result.unknown)) == ({"customer_id"}, {"score"})
    result = account(parquet({"name": pa.array(["a"]), "NAME": pa.array(["b"])}), "parquet")
    assert result.refused == [
        Refused(1, '{"name":"a","NAME":"b"}', ("missing_column:customer_id", "duplicate_column:name"))
    ]


def test_parquet_bytes_that_are_no_utf8_refuse_only_the_row() -> None:
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers())
    for column in (pa.array([b"a", b"\xff", b"c"]), broken):
        result = account(parquet({"customer_id": column}), "parquet")
        assert [row[:2] for row in result.accepted] == [(1, "a"), (3, "c")]
        assert result.refused == [Refused(2, '{"customer_id":"\\xff"}', ("not_utf8",))]


def test_parquet_payload_is_the_row_as_json() -> None:
    data = parquet({"id": pa.array([1]), "Items": pa.array([[{"p": "x"}]])})
    assert account(gzip.compress(data), "parquet", PAYLOAD) == account(data, "parquet", PAYLOAD)
    assert account(data, "parquet", PAYLOAD).accepted == [(1, '{"id":1,"Items":[{"p":"x"}]}', None)]


def test_parquet_of_many_rows_comes_in_chunks() -> None:
    data = parquet({"customer_id": pa.array(range(25_000))})
    assert [row[:2] for row in account(data, "parquet", chunk_rows=7_000).accepted][-1] == (25_000, "24999")


def test_broken_parquet_makes_the_object_unreadable() -> None:
    data = parquet({"customer_id": pa.array([str(i) for i in range(1000)])})
    for broken in (b"PAR1", data[:-1], data[: len(data) // 2], data[:40] + b"\xff" * 200 + data[240:]):
        with pytest.raises(Unreadable, match="write it again from its source") as error:
            account(broken, "parquet")
        assert error.value.reason == "broken_parquet"


def test_reading_is_lazy() -> None:
    stream = io.BytesIO(HEADER + b"1,a\n" * 1000)
    reading = read_object(stream, "csv", CUSTOMERS, block_bytes=64)
    assert isinstance(reading, Reading)
    assert stream.tell() <= 128
