"""Problems: what the API says when it cannot answer, as RFC 9457 has it (application/problem+json)."""

from __future__ import annotations

import json
from collections.abc import Mapping


class Problem(Exception):
    """Ends a request with a status; `detail` says what is wrong and what to do."""

    def __init__(self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        told = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return json.dumps(told, ensure_ascii=False).encode()


MEDIA = "application/problem+json"
