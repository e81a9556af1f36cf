"""The application: its paths, what stands before them, and how it is started.

Belongs here: routes and their parameters, headers of answers, the gate (tokens, rates, paths). Ids are text, whatever
they look like.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import generate_latest
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c360_assets.settings import Settings
from c360_assets.store import Store
from serving.api import reads
from serving.api.access import NOBODY, PERSONAL, READ, Rate, Reader, Tokens
from serving.api.counts import Counts
from serving.api.problems import MEDIA, RESPONSES, SCHEMA, Problem
from serving.api.reads import Reads

# What a browser asks without a token: the paths say nothing of anybody.
OPEN = ("/health", "/docs", "/openapi.json")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_GENERATION = f"({reads.GENERATION})"
# Stands in a path for the slash of an id until the path is taken apart: a letter that nobody's id has.
_SLASH = "\ue000"


def _id(text: str) -> str:
    return text.replace(_SLASH, "/")


Id = Annotated[
    str, Path(description="Text, as the feed gives it; a slash in it as %2F.", min_length=1, max_length=200),
    AfterValidator(_id),
]  # fmt: skip
Skip = Annotated[int, Query(ge=0, le=10_000_000, description="Rows to pass over; `after` is faster far in.")]
After = Annotated[str | None, Query(description="`next` of the page before: costs the same however far in.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Minutes = Annotated[int, Query(ge=1, le=1440, description="Before the newest of them.")]


_ID = {"type": "string", "minLength": 1, "maxLength": 200}
_INSTANT = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}


def _parameter(name: str, place: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "description": text, "schema": schema}


class Gate:
    """Before every path: who asks, whether they may, how often; after it: what it took."""

    def __init__(self, app: ASGIApp, tokens: Tokens | None, rate: Rate, counts: Counts) -> None:
        self._app, self._tokens, self._rate, self._counts = app, tokens, rate, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        if b"%2" in (raw := scope.get("raw_path") or b"") and b"%2f" in raw.lower():
            parts = raw.partition(b"?")[0].decode("ascii", "replace").split("/")
            scope["path"] = "/".join(unquote(part).replace("/", _SLASH) for part in parts)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if scope["path"] not in OPEN and scope["method"] != "OPTIONS":
                scope["reader"] = self._reader(scope)
            await self._app(scope, receive, noted)
        except Problem as problem:
            await _answer(problem)(scope, receive, noted)
        finally:
            route = scope.get("route")
            self._counts.note(getattr(route, "path", "none"), status, time.perf_counter() - began)

    def _reader(self, scope: Scope) -> Reader:
        reader = NOBODY
        if self._tokens is not None:
            header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            reader = self._tokens.reader(header.decode("latin-1"))
        self._rate.take(reader.name)
        if READ not in reader.scopes:
            raise Problem(403, "forbidden", f"the token's scopes lack {READ}")
        return reader


def _shown(request: Request) -> str:
    """The column with what the reader may see of persons."""
    return "personal" if request.scope["reader"].sees_persons else "masked"


class Gzip:
    """For who says they take it; all others pass by it untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._zipped = app, GZipMiddleware(app, minimum_size=1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = any(name == b"accept-encoding" and b"gzip" in value for name, value in scope.get("headers", ()))
        await (self._zipped if taken else self._app)(scope, receive, send)


def _answer(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, headers=problem.headers, media_type=MEDIA)


def _response(request: Request, body: bytes, generation: str) -> Response:
    number, _, batch = generation.partition(" ")
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "X-C360-Generation": number, "X-C360-Batch": batch, "Vary": "Authorization"}
    asked = request.headers.get("if-none-match")
    if asked is not None and tag in [part.strip().removeprefix("W/") for part in asked.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def create_app(settings: Settings) -> FastAPI:
    """The application over the settings' store.

    Raises:
        OSError: if the file with the public key cannot be read.
    """
    store = Reads(Store(settings.serving_url))
    key = settings.api_public_key
    tokens = Tokens(FilePath(key).expanduser(), settings.api_issuer, settings.api_audience) if key else None
    counts = Counts()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="c360", version="1", description="Customers, their history, orders and products.",
        responses=RESPONSES, lifespan=lifespan, redoc_url=None,
    )  # fmt: skip
    app.add_middleware(Gate, tokens=tokens, rate=Rate(settings.api_rate), counts=counts)
    app.add_middleware(Gzip)
    if settings.api_cors:
        app.add_middleware(
            CORSMiddleware, allow_methods=["GET"], allow_origins=list(settings.api_cors),
            allow_headers=["authorization", "if-none-match"],
            expose_headers=["ETag", "Retry-After", "X-C360-Generation", "X-C360-Batch"],
        )  # fmt: skip
    if tokens is None:
        # Else a page from anywhere could ask through a name of its own that leads here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "testserver"])

    async def one(sql: str, values: Mapping[str, Any]) -> Sequence[Any] | None:
        found = await store.rows(sql, values)
        return found[0] if found else None

    async def page(
        request: Request, table: str, key: tuple[str, ...], skip: int, limit: int, after: str | None,
        where: str = "true", values: Mapping[str, Any] | None = None, *, newest_first: bool = False,
    ) -> Response:  # fmt: skip
        """Rows of a table in the order of `key`."""
        bound = {"limit": limit + 1, "skip": skip, **(values or {})}
        if after is not None:
            place = reads.key_of(after, len(key))
            bound |= {f"after_{n}": part for n, part in enumerate(place)}
            names = ", ".join(f":after_{n}" for n in range(len(key)))
            where += f" and ({', '.join(key)}) {'<' if newest_first else '>'} ({names})"
        order = ", ".join(f"{column} desc" if newest_first else column for column in key)
        generation, rows = await store.of_generation(
            f"select doc, {_shown(request)}, {', '.join(key)} from {table} where {where} "
            f"order by {order} limit :limit offset :skip",
            bound,
        )
        following = reads.cursor_of([str(part) for part in rows[limit - 1][2:]]) if len(rows) > limit else None
        body = reads.listed(rows[:limit], following)
        return _response(request, body, generation)

    # Asked most, and by far, and FastAPI takes longer over it than the answer does: see _at_once.
    @app.get(
        "/customers/{customer_id}", summary="One customer, now or as of a day, as known on another",
        openapi_extra={"parameters": [
            _parameter("customer_id", "path", "Text, as the feed gives it; a slash in it as %2F.", _ID),
            _parameter("as_of", "query", "What held then: YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ; UTC.", _INSTANT),
            _parameter("known_at", "query", "As it was known then.", _INSTANT),
        ]},
    )  # fmt: skip
    async def customer(request: Request) -> Response:
        customer_id, asked = (
            _id(request.path_params["customer_id"]),
            request.query_params if request.scope["query_string"] else {},
        )
        as_of, known_at = asked.get("as_of"), asked.get("known_at")
        values = {"id": customer_id, "as_of": reads.instant("as_of", as_of)}
        known = reads.instant("known_at", known_at)
        if known is not None:
            bound = " and event_time <= :as_of" if as_of is not None else ""
            events = await store.rows(
                f"select doc, {_shown(request)}, {_GENERATION} from customer_events where customer_id = :id{bound}",
                values,
            )
            row = reads.believed(events, known)
        elif as_of is not None:
            row = await one(
                f"select doc, {_shown(request)}, {_GENERATION} from customer_versions "
                "where customer_id = :id and valid_from <= :as_of order by valid_from desc limit 1",
                values,
            )
            row = row if row is not None and reads.holds(row[0], str(values["as_of"])) else None
        else:
            row = await one(
                f"select doc, {_shown(request)}, {_GENERATION} from customers where customer_id = :id", values
            )
        if row is None:
            then = " at that time" if as_of or known_at else ""
            raise Problem(404, "no such customer", f"customer '{customer_id}' is not there{then}")
        body = reads.joined(row[0], row[1]).encode()
        return _response(request, body, row[2])

    @app.get("/customers", summary="Customers by id")
    async def customers(
        request: Request, skip: Skip = 0, limit: Limit = 100, after: After = None,
        email: Annotated[str | None, Query(max_length=320, description="Exactly this address.")] = None,
        name: Annotated[
            str | None, Query(min_length=1, max_length=200, description="What the last name begins with.")
        ] = None,
    ) -> Response:  # fmt: skip
        where, values = "true", {}
        if email is not None or name is not None:
            if not request.scope["reader"].sees_persons:
                raise Problem(403, "forbidden", f"to search by name or e-mail the token needs the scope {PERSONAL}")
            if email is not None:
                where += " and email = :email"
                values["email"] = email
            if name is not None:
                where += " and last_name >= :name and last_name < :beyond"
                values |= {"name": name, "beyond": name + "\U0010ffff"}
        return await page(request, "customers", ("customer_id",), skip, limit, after, where, values)

    @app.get("/customers/{customer_id}/orders", summary="A customer's orders, newest first")
    async def customer_orders(
        request: Request, customer_id: Id, skip: Skip = 0, limit: Limit = 50, after: After = None
    ) -> Response:
        key = ("ordered_at", "source", "order_id")
        of = {"id": customer_id}
        return await page(request, "orders", key, skip, limit, after, "customer_id = :id", of, newest_first=True)

    @app.get("/customers/{customer_id}/history", summary="A customer's versions, oldest first")
    async def history(
        request: Request, customer_id: Id, skip: Skip = 0, limit: Limit = 100, after: After = None
    ) -> Response:
        of = {"id": customer_id}
        return await page(request, "customer_versions", ("valid_from",), skip, limit, after, "customer_id = :id", of)

    @app.get("/customers/{customer_id}/timeline", summary="What was stated of a customer, oldest first")
    async def timeline(
        request: Request, customer_id: Id, skip: Skip = 0, limit: Limit = 100, after: After = None
    ) -> Response:
        key = ("event_time", "op", "nth")
        of = {"id": customer_id}
        return await page(request, "customer_events", key, skip, limit, after, "customer_id = :id", of)

    @app.get("/products", summary="Products by id, one for each currency they sold in")
    async def products(request: Request, skip: Skip = 0, limit: Limit = 100, after: After = None) -> Response:
        return await page(request, "products", ("product_id", "currency"), skip, limit, after)

    @app.get("/orders", summary="Orders, newest first")
    async def orders(request: Request, skip: Skip = 0, limit: Limit = 100, after: After = None) -> Response:
        key = ("ordered_at", "source", "order_id")
        return await page(request, "orders", key, skip, limit, after, newest_first=True)

    @app.get("/metrics/realtime", summary="What happened in each of the last minutes, newest first")
    async def realtime(request: Request, minutes: Minutes = 60) -> Response:
        last = await one("select max(happened_minute) from real_time", {})
        since = reads.earlier(last[0], minutes) if last and last[0] else ""
        generation, rows = await store.of_generation(
            "select doc, '{}', happened_minute from real_time where happened_minute > :since "
            "order by happened_minute desc, event_type",
            {"since": since},
        )
        # Of another generation by now, a later minute may be the newest.
        since = reads.earlier(rows[0][2], minutes) if rows else since
        told = reads.array([row for row in rows if row[2] > since])
        return _response(request, f'{{"minutes":{told}}}'.encode(), generation)

    @app.get("/quality", summary="How many issues there are of each kind")
    async def quality(request: Request, skip: Skip = 0, limit: Limit = 100, after: After = None) -> Response:
        return await page(request, "issues", ("issue", "severity", "subject"), skip, limit, after)

    @app.get("/health", summary="Is anything served, and since when?")
    async def health(request: Request) -> Response:
        row = await one("select generation, batch, served_at from served", {})
        if row is None:
            raise reads.nothing_served()
        body = reads.told({"status": "ok", "generation": row[0], "batch": row[1], "served_at": row[2] + "Z"})
        return Response(body, media_type="application/json")

    @app.get("/metrics", summary="Counts and times, for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        row = await one("select generation, served_at from served", {})
        if row is not None:
            counts.generation.set(row[0])
            counts.served_at.set(reads.seconds(row[1]))
            for feed, stage, doc, _ in await store.rows("select feed, stage, doc, '' from stage_seconds", {}):
                counts.took(feed, stage, json.loads(doc))
        return Response(generate_latest(counts.registry), media_type="text/plain; version=0.0.4")

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return _answer(Problem(422, "a parameter is wrong", told))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return _answer(Problem(error.status_code, str(error.detail).lower(), str(error.detail), error.headers))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _answer(Problem(500, "an error of ours", "what went wrong stands in the log of the service"))

    _at_once(app, "/customers/{customer_id}", customer)
    return _described(app, tokens is not None)


def _at_once(app: FastAPI, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
    """Lets requests for the path reach the endpoint without FastAPI, whose route stays for its contract."""
    (documented,) = (route for route in app.routes if getattr(route, "path", None) == path)

    async def reached(request: Request) -> Response:
        request.scope["route"] = documented  # what it is counted by
        return await endpoint(request)

    app.router.routes.insert(0, Route(path, reached, methods=["GET"]))


def from_environment() -> FastAPI:
    """What `c360 api` starts in each of its processes."""
    return create_app(Settings.load())


def _described(app: FastAPI, by_token: bool) -> FastAPI:
    """OpenAPI that knows what a problem looks like, and where a token goes."""
    document = app.openapi()
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = SCHEMA
    if by_token:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"]["422"] = RESPONSES[422]
            if by_token and path not in OPEN:
                operation["security"] = [{"token": []}]
    app.openapi_schema = document
    return app
