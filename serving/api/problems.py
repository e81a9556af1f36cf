"""Problems: what the API says when it cannot answer, as RFC 9457 (application/problem+json) and OpenAPI have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MEDIA = "application/problem+json"


class Problem(Exception):
    """Ends a request with a status; `detail` says what is wrong and what to do."""

    def __init__(self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        told = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return json.dumps(told, ensure_ascii=False).encode()


def _told(status: int, text: str) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": text, "content": {MEDIA: {"schema": schema}}}}


SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {name: {"type": "string"} for name in ("type", "title", "detail")} | {"status": {"type": "integer"}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "What If-None-Match names is still so."},
    **_told(400, "The request cannot be read."),
    **_told(401, "No token, or one that is refused."),
    **_told(403, "The token's scopes do not reach so far."),
    **_told(404, "There is no such thing."),
    **_told(422, "A parameter cannot be what it says."),
    **_told(429, "Too many requests; Retry-After says when."),
    **_told(503, "Nothing is served yet, or the store cannot be reached."),
}
