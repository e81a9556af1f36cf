"""Decoding: what an event's bytes say, as the text of one JSON object. One function per format.

Belongs here: every format in which events come. A further one is a function in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Decode = Callable[[bytes], bytes]


class Undecodable(ValueError):
    """An event says nothing that could be landed; the text is the reason, as the dead letter has it."""


def json_object(value: bytes) -> bytes:
    """The bytes as they are, if they are one JSON object: a broken one would harm those beside it."""
    try:
        told = json.loads(value.decode("utf-8"))
    except UnicodeDecodeError:
        raise Undecodable("not_utf8") from None
    except (ValueError, RecursionError):
        raise Undecodable("not_json") from None
    if not isinstance(told, dict):
        raise Undecodable("no_object")
    return value


def avro_object(registry: Any, topic: str) -> Decode:
    """Avro with the id of its schema in front, as Confluent's serializers write it; `registry`: their client."""
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    decode, context = AvroDeserializer(registry), SerializationContext(topic, MessageField.VALUE)

    def decoded(value: bytes) -> bytes:
        try:
            told = decode(value, context)
        except Exception as error:  # noqa: BLE001 - whatever the library says of these bytes, the stream goes on
            raise Undecodable(f"not_avro: {error}") from None
        if not isinstance(told, dict):
            raise Undecodable("no_object")
        return json.dumps(told, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()

    return decoded


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
