"""Reads Parquet through Arrow: typed values to the same canonical text that CSV carries.

Instants in UTC with `Z`, times without zone without it, dates ISO, decimals plain, booleans `true` and `false`, nested
values compact JSON. Bytes are text if they are UTF-8.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c360_assets.reading_record import Chunk, Gather, Layout, Reading, Unreadable, byte_blocks, fold, is_utf8, shown

_BATCH_ROWS = 10_000
_IN_MEMORY = 32 << 20  # larger objects wait on disk: the directory of a Parquet object stands at its end


def read_parquet(stream: BinaryIO, layout: Layout, block_bytes: int, chunk_rows: int) -> Reading:
    """Reads the schema at once, the rows lazily. Raises Unreadable("broken_parquet") where it is not sound."""
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # closes when the last chunk is gone
    file.writelines(byte_blocks(stream, block_bytes))
    if not file.tell():
        return Reading(frozenset(), frozenset(), iter(()))
    with _unreadable_if_broken():
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
    folded = [fold(name) for name in names]
    if layout.payload:
        return Reading(frozenset(layout.columns), frozenset(), _chunks(parquet, layout, folded, chunk_rows))
    declared = {fold(column): column for column in layout.columns}
    present = frozenset(declared[name] for name in folded if name in declared)
    unknown = frozenset(name.strip().lower() for name in names if fold(name) not in declared)
    return Reading(present, unknown, _chunks(parquet, layout, folded, chunk_rows))


@contextmanager
def _unreadable_if_broken() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = str(error).partition("\n")[0]
        message = f"the object is not sound Parquet ({what}); write it again from its source"
        raise Unreadable("broken_parquet", message) from error


def _chunks(parquet: Any, layout: Layout, folded: list[str], chunk_rows: int) -> Iterator[Chunk]:
    required = () if layout.payload else sorted(layout.required)
    faults = [
        *(f"missing_column:{column}" for column in required if fold(column) not in folded),
        *(f"duplicate_column:{name}" for name, count in Counter(folded).items() if count > 1),
    ]
    gather = Gather(len(layout.columns) + 1, chunk_rows)
    batches = parquet.iter_batches(batch_size=min(_BATCH_ROWS, chunk_rows))
    while True:
        with _unreadable_if_broken():
            batch = next(batches, None)
            if batch is None:
                break
            values = _values(batch, layout, folded)
        count = batch.num_rows
        if gather.room < count:
            yield gather.take()
        clean = all(is_utf8("".join(filter(None, column))) for column in values)
        if clean and not faults:
            gather.accept(values, count, batch.nbytes)
            continue
        raws = _rows(batch)
        for i, raw in enumerate(raws):
            record = [column[i] for column in values]
            reasons = [*faults, *([] if clean or is_utf8(raw) else ["not_utf8"])]
            if reasons:
                gather.refuse(shown(raw), reasons)
            else:
                gather.accept_one(record, len(raw))
    if gather:
        yield gather.take()


def _values(batch: pa.RecordBatch, layout: Layout, folded: list[str]) -> list[list[str | None]]:
    nothing: list[str | None] = [None] * batch.num_rows
    if layout.payload:
        return [[*_rows(batch)], nothing]
    names = [fold(column) for column in layout.columns]
    values = [column_texts(batch.column(folded.index(name))) if name in folded else nothing for name in names]
    unknown = [i for i, name in enumerate(folded) if name not in names]
    extra: list[str | None] = [*_rows(batch, unknown, str.lower)] if unknown else nothing
    return [*values, extra]


def _rows(
    batch: pa.RecordBatch, places: list[int] | None = None, spell: Callable[[str], str] | None = None
) -> list[str]:
    """Each row as the text of a JSON object, of the columns at `places` only if given."""
    places = list(range(batch.num_columns)) if places is None else places
    names = [batch.schema.names[i] for i in places]
    columns = [_json_texts(batch.column(i)) for i in places]
    return _objects([spell(name.strip()) for name in names] if spell else names, columns, batch.num_rows)


def _objects(names: list[str], columns: list[list[str]], count: int) -> list[str]:
    starts = [encode_basestring(name) + ":" for name in names]
    rows = zip(*columns, strict=True) if columns else [()] * count
    return ["{" + ",".join(map(str.__add__, starts, row)) + "}" for row in rows]


def column_texts(array: Any) -> list[str | None]:
    """The values as canonical text."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return column_texts(array.storage)
    if pa.types.is_dictionary(kind):
        return column_texts(array.dictionary_decode())
    if pa.types.is_nested(kind):
        texts = zip(_json_texts(array), array.is_valid().to_pylist(), strict=True)
        return [text if valid else None for text, valid in texts]
    return _map(_scalar_text(kind), _plain(array))


def _map(text: Callable[[Any], str], values: list[Any]) -> list[str | None]:
    return [None if value is None else text(value) for value in values]


def _plain(array: Any) -> list[Any]:
    """The values as Python has them, but times as Arrow spells them: Python's end with the year 9999 and have no ns."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        if kind.unit == "ns":
            array = pc.floor_temporal(array.cast(pa.timestamp("ns", "UTC") if kind.tz else kind), unit="microsecond")
        array = array.cast(pa.timestamp("us", "UTC" if kind.tz else None))
    if pa.types.is_temporal(kind):
        return array.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        return _map(float, array.cast(pa.float32()).cast(pa.string()).to_pylist())  # type: ignore[arg-type]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            return array.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            return array.cast(pa.large_binary()).to_pylist()  # type: ignore[no-any-return]
    return array.to_pylist()  # type: ignore[no-any-return]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _instant(text: str) -> str:
    zone = "Z" if text.endswith("Z") else ""
    return text.removesuffix("Z").removesuffix(".000000").replace(" ", "T") + zone


def _scalar_text(kind: Any) -> Callable[[Any], str]:
    if pa.types.is_timestamp(kind):
        return _instant
    if pa.types.is_time(kind):
        return lambda text: str(text).removesuffix(".000000000").removesuffix(".000000").removesuffix(".000")
    if pa.types.is_decimal(kind):
        return "{:f}".format
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    if pa.types.is_floating(kind):
        return repr
    return _text if not pa.types.is_integer(kind) else str


def _json_texts(array: Any) -> list[str]:
    """The values as JSON text; what JSON has no type for as the string of its canonical text."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _json_texts(array.storage)
    if pa.types.is_dictionary(kind):
        return _json_texts(array.dictionary_decode())
    valid = array.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        texts = _objects(names, [_json_texts(inner) for inner in array.flatten()], len(array))
    elif pa.types.is_map(kind):
        names = [encode_basestring(text or "") + ":" for text in column_texts(array.keys)]
        pairs = list(map(str.__add__, names, _json_texts(array.items)))
        texts = ["{" + ",".join(pairs[start:stop]) + "}" for start, stop in _spans(array)]
    elif pa.types.is_fixed_size_list(kind):
        inner = iter(_json_texts(array.flatten()))  # holds nothing for a null
        texts = ["[" + ",".join(next(inner) for _ in range(kind.list_size if ok else 0)) + "]" for ok in valid]
    elif pa.types.is_nested(kind):
        items = _json_texts(array.values)
        texts = ["[" + ",".join(items[start:stop]) + "]" for start, stop in _spans(array)]
    else:
        plain = pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
        is_float = pa.types.is_floating(kind)
        texts = [
            "null" if text is None else text if plain or (is_float and text[-1:].isdigit()) else encode_basestring(text)
            for text in column_texts(array)
        ]
    return [text if ok else "null" for text, ok in zip(texts, valid, strict=True)]


def _spans(array: Any) -> Iterator[tuple[int, int]]:
    offsets = array.offsets.to_pylist()
    return pairwise(offsets)
