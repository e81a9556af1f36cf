"""Who listens to alerts: a real webhook and a real mailbox, each a server on loopback."""

from __future__ import annotations

import base64
import ipaddress
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Webhook:
    """What a webhook was sent; it answers with `status`, or with `garbage`."""

    address: str = ""
    status: int = 200
    garbage: bytes = b""
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append((self.headers["Content-Type"], json.loads(sent)))
            if hook.garbage:
                self.wfile.write(hook.garbage)
                return
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook.address = f"http://127.0.0.1:{server.server_port}/services/T0/B0/secret"
    yield hook
    server.shutdown()
    server.server_close()


@dataclass
class Mailbox:
    """What an SMTP server on `port` was sent, as it came. With `tls` it speaks it: at once, or when it is asked."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    at_once: bool = False
    in_secret: list[bool] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def say(line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            def hide() -> None:
                assert box.tls
                self.connection = box.tls.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)

            if box.at_once:
                hide()
            say("220 here")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "EHLO":
                    say("250-here")
                    if box.tls and not isinstance(self.connection, ssl.SSLSocket):
                        say("250-STARTTLS")
                    say("250 AUTH PLAIN")
                elif word == "STARTTLS":
                    say("220 go on")
                    hide()
                elif word == "AUTH":
                    box.in_secret.append(isinstance(self.connection, ssl.SSLSocket))
                    box.logins.append(base64.b64decode(line.split()[2]).decode())
                    say("235 in")
                elif word == "DATA":
                    say("354 go on")
                    text = b""
                    while not text.endswith(b"\r\n.\r\n"):
                        text += self.rfile.readline()
                    box.mails.append(message_from_bytes(text[:-5], policy=default))  # type: ignore[arg-type]
                    say("250 taken")
                elif word == "QUIT":
                    say("221 bye")
                    return
                else:
                    if word == "RCPT":
                        box.recipients.append(line)
                    say("250 fine")

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None: ...  # who does not trust us hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        box.port = server.server_address[1]
        yield box
        server.shutdown()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its key; nobody has signed it but itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "here.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path
