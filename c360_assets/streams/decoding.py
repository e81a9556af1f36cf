"""Decoding: what an event's bytes say, as the text of one JSON object. One function per format.

Belongs here: every format in which events come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from c360_assets.streams import StreamError

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
            _look_at_registry(error)
            raise Undecodable(f"not_avro: {error}") from None
        if not isinstance(told, dict):
            raise Undecodable("no_object")
        return json.dumps(told, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()

    return decoded


def protobuf_object(registry: Any, descriptors: Path, message: str) -> Decode:
    """Protobuf with the id of its schema in front, as Confluent's serializers write it; fields keep their names.

    `descriptors`: what `protoc --include_imports --descriptor_set_out` writes; `message`: full name of the type in it.

    Raises:
        StreamError: if there is no such type.
    """
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
    from google.protobuf import descriptor_pb2, json_format, message_factory
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError

    pool: Any = DescriptorPool()
    try:
        told = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
        for file in told.file:
            pool.Add(file)
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    except DecodeError:
        raise StreamError(f"{descriptors}: holds no descriptors; protoc --descriptor_set_out writes them") from None
    except KeyError:
        names = sorted(f"{file.package}.{each.name}".strip(".") for file in told.file for each in file.message_type)
        raise StreamError(f"{descriptors}: has no message '{message}'; it has: {', '.join(names)}") from None
    decode = ProtobufDeserializer(kind, {"use.deprecated.format": False}, registry)

    def decoded(value: bytes) -> bytes:
        try:
            found = decode(value)
            text = json_format.MessageToJson(found, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
        except Exception as error:  # noqa: BLE001 - whatever the library says of these bytes, the stream goes on
            _look_at_registry(error)
            raise Undecodable(f"not_protobuf: {error}") from None
        return str(text).encode()

    return decoded


def _look_at_registry(error: Exception) -> None:
    """Was it the registry that failed, and not the event? That it knows no such schema is the event's fault.

    Raises:
        StreamError: if so: the event is read again where somebody starts again.
    """
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

    answered = isinstance(error, SchemaRegistryError) and error.http_status_code != 404
    # Which of the two libraries the client takes depends on what else is installed.
    of_http = any(kind.__module__.partition(".")[0] in ("httpx", "httpx2") for kind in type(error).__mro__)
    if answered or of_http or isinstance(error, OAuthTokenError):
        raise StreamError(
            f"the schema registry {'refuses' if answered else 'does not answer'}: {error}. No event is taken without "
            "it, and none is lost: look at its address and login, and start again"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
