"""Reading: the bytes of one object become numbered records, each accepted as text values or refused with a reason.

One reader per format, in the siblings `reading_csv`, `reading_json` and `reading_parquet`. Knows nothing of S3, of
Dagster or of the warehouse: what it says of an object is the same wherever the rows go.
"""

from typing import BinaryIO

from c360_assets.reading_csv import read_csv
from c360_assets.reading_json import read_json
from c360_assets.reading_parquet import read_parquet
from c360_assets.reading_record import BLOCK_BYTES, CHUNK_ROWS, Chunk, Layout, Reading, Refused, Unreadable

__all__ = ["CHUNK_ROWS", "Chunk", "Layout", "Reading", "Refused", "Unreadable", "format_of", "read_object"]

_READERS = {"csv": read_csv, "json": read_json, "parquet": read_parquet}
_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}


def format_of(name: str) -> str | None:
    """The format that an object's name tells: csv, json or parquet; None where it tells none."""
    name = name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    name = name.removesuffix(".gz")
    return next((known for ending, known in _FORMATS.items() if name.endswith(ending)), None)


def read_object(
    stream: BinaryIO, format: str, layout: Layout, *, block_bytes: int = BLOCK_BYTES, chunk_rows: int = CHUNK_ROWS
) -> Reading:
    """The records of one object; `chunks` is lazy and reads `stream` as it goes, in memory that does not grow with it.

    Raises Unreadable, here or while `chunks` is read, where the object as a whole cannot be read; what was yielded by
    then should be dropped.
    """
    if format not in _READERS:
        raise ValueError(f"format {format!r} is not known; there are: {', '.join(_READERS)}")
    return _READERS[format](stream, layout, block_bytes, chunk_rows)
