"""A proxy in front of an HTTP server that cuts, delays and answers itself, as a network and a busy service do."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"


@dataclass
class Fault:
    """What befalls requests to `path` in whose statement `text`, a pattern, is found, the first `times` of them.

    `answer`: {code, message}, told instead of asking the server; `status`, of HTTP, likewise. `cut`: the connection ends before the
    server hears of it, or once it has done it. `delay`: seconds.
    """

    path: str
    text: str = ""
    times: int = 1
    answer: tuple[str, str] | None = None
    status: int = 0
    cut: str = ""
    delay: float = 0.0
    met: int = 0

    def meets(self, path: str, statement: str) -> bool:
        if self.met == self.times or not path.startswith(self.path) or not re.search(self.text, statement):
            return False
        self.met += 1
        return True


@dataclass
class Between:
    """The proxy while it runs: where it listens, what goes wrong, and what came by; `sessions` has each one's statements."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sessions: dict[str, list[str]] = field(default_factory=dict)


@contextlib.contextmanager
def between(server: int) -> Iterator[Between]:
    """A proxy on a free port of this machine before the one that listens at `server`."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server, lambda: state))
    state = Between(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        listening.shutdown()
        listening.server_close()


def _handler(server: int, state: Callable[[], Between]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            statement = self._heard(body)
            fault = next((f for f in state().faults if f.meets(self.path, statement)), Fault(""))
            time.sleep(fault.delay)
            if fault.cut == "before":
                return self._hang_up()
            if fault.status:
                return self._tell(fault.status, b"", [])
            if fault.answer:
                code, message = fault.answer
                told = {"data": {"errorCode": code}, "code": code, "message": message, "success": False}
                return self._tell(200, json.dumps(told).encode(), [("Content-Type", "application/json")])
            asked = http.client.HTTPConnection("127.0.0.1", server, timeout=600)
            asked.request(self.command, self.path, body, dict(self.headers.items()))
            answer = asked.getresponse()
            content = answer.read()
            asked.close()
            if fault.cut == "after":
                return self._hang_up()
            return self._tell(answer.status, content, answer.getheaders())

        do_GET = do_POST = do_PUT = do_DELETE = pass_on

        def _heard(self, body: bytes) -> str:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            state().paths.append(self.path)
            if self.path.startswith(LOGIN):
                state().logins.append(json.loads(body)["data"])
            if not self.path.startswith(QUERY):
                return ""
            statement = str(json.loads(body)["sqlText"])
            state().statements.append(statement)
            state().sessions.setdefault(self.headers.get("Authorization") or "", []).append(statement)
            return statement

        def _tell(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what came by is in `statements`."""

    return Handler
