"""The API: every path, scope and error, over a real store."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from c360_assets.settings import Settings
from c360_assets.store import Snapshot, Store
from serving.api import reads
from serving.api.app import create_app
from serving.api.reads import Reads
from tests.serving.conftest import Gold, customer

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(scope: str = "read pii:read", **claims: Any) -> dict[str, str]:
    told = {"sub": "tester", "exp": time.time() + 60, "scope": scope, "iss": "us"} | claims
    return {"Authorization": f"Bearer {jwt.encode(told, KEY, 'RS256')}"}


def client_of(settings: Settings, **more: Any) -> TestClient:
    return TestClient(create_app(Settings(**(vars(settings) | more))), raise_server_exceptions=False)


@pytest.fixture
def filled(gold: Gold) -> Gold:
    gold.put("vw_customer_360", *(customer(number) for number in range(1, 6)), customer(6, email=None))
    versions = [("2026-01-01", "2026-02-01", "Ulm"), ("2026-02-01", "2026-03-01", "Rome"), ("2026-04-01", None, "Oslo")]
    gold.put("dim_customer", *(
        (f"C001@{n}", "C001", "Ann", "Lee1", "c1@example.org", city, start, end) for n, (start, end, city) in enumerate(versions)
    ))  # fmt: skip
    gold.put("vw_customer_timeline",
        ("C001", "2026-01-01", "upsert", 1, "a", None, "2026-01-02", "c1@example.org", "Ulm"),
        ("C001", "2026-02-01", "upsert", 1, "b", "1", "2026-05-01", "c1@example.org", "Rome"),
        ("C001", "2026-02-01", "upsert", 2, "c", "2", "2026-06-01", "c1@example.org", "Bern"),
        ("C001", "2026-03-01", "delete", 1, "", None, "2026-03-02", None, None),
        # Half a second apart, and of one instant: ten, and the last counts.
        ("C002", "2026-01-01 12:00:00", "upsert", 1, "a", None, "2026-01-02", "c2@example.org", "Ulm"),
        ("C002", "2026-01-01 12:00:00.5", "upsert", 9, "b", None, "2026-01-02", "c2@example.org", "Rome"),
        ("C002", "2026-01-01 12:00:00.5", "upsert", 10, "c", None, "2026-01-02", "c2@example.org", "Oslo"),
    )  # fmt: skip
    gold.put("vw_order_analytics", *(
        ("orders", f"O{n}", "C001" if n % 2 else "C002", datetime(2026, 1, n), "10.0000", True) for n in range(1, 8)
    ))  # fmt: skip
    gold.put("vw_product_analytics", ("P1", "EUR", "3.0000"), ("P1", "USD", "4.0000"), ("P2", None, "0.0000"))
    gold.put("issue_counts", ("refused", "error", "staging.customers", 3))
    gold.serve()
    return gold


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    return str(path)


@pytest.fixture
def api(filled: Gold, key: str) -> Iterator[TestClient]:
    with client_of(filled.settings, api_public_key=key, api_issuer="us") as client:
        client.headers.update(token())
        yield client


def problem(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status and told["title"] and told["type"] == "about:blank"
    return str(told["detail"])


def test_customers_come_in_pages_that_lose_and_double_none(api: TestClient) -> None:
    ids = [f"C{number:03}" for number in range(1, 7)]
    assert [row["customer_id"] for row in api.get("/customers").json()["items"]] == ids
    skipped = api.get("/customers", params={"skip": 4, "limit": 1}).json()
    assert [row["customer_id"] for row in skipped["items"]] == ["C005"]
    found, after = [], None
    while True:
        page = api.get("/customers", params={"limit": 4} | ({"after": after} if after else {})).json()
        found += [row["customer_id"] for row in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == ids
    assert "after" in problem(api.get("/customers", params={"after": "bm8"}), 404)
    assert "limit" in problem(api.get("/customers", params={"limit": 0}), 422)


def test_a_customer_now_and_as_of_a_day(api: TestClient) -> None:
    now = api.get("/customers/C001")
    assert now.json() == {
        "customer_id": "C001", "city": "Ulm", "gross_revenue": "12.5000", "count_orders": 1, "valid_from": "2026-01-01T00:00:00Z",
        "email": "c1@example.org", "first_name": "Ann", "last_name": "Lee1",
    }  # fmt: skip
    assert now.headers["x-c360-batch"] == "20260101T000000-aaaa" and now.headers["x-c360-generation"] == "1"

    def city(**when: str) -> Any:
        response = api.get("/customers/C001", params=when)
        return response.json()["city"] if response.status_code == 200 else problem(response, 404)

    assert city(as_of="2026-01-31T23:59:59Z") == "Ulm"
    assert city(as_of="2026-02-01") == city(as_of="2026-02-01T01:00:00+01:00") == "Rome"
    for before_deleted_gap in ("2025-12-31", "2026-03-01", "2026-03-31T23:59:59.999999Z"):
        assert "at that time" in city(as_of=before_deleted_gap)
    assert city(as_of="2026-04-01") == city(as_of="2030-01-01") == "Oslo"
    # As it was believed: what came in May and June was not known in April, and the later position wins from June.
    assert city(as_of="2026-02-15", known_at="2026-04-01") == "Ulm"
    assert city(as_of="2026-02-15", known_at="2026-05-02") == "Rome"
    assert city(as_of="2026-02-15", known_at="2026-06-02") == "Bern"
    assert "at that time" in city(as_of="2026-03-15", known_at="2026-06-02")
    assert "at that time" in city(known_at="2026-06-02")
    # Half a second apart the later one counts, and of ten of one instant the last.
    assert api.get("/customers/C002", params={"known_at": "2026-06-02"}).json()["city"] == "Oslo"
    assert "as_of: 'soon'" in problem(api.get("/customers/C001", params={"as_of": "soon"}), 422)
    assert "'1'" in problem(api.get("/customers/1"), 404)


def test_orders_history_timeline_products_quality(api: TestClient) -> None:
    def of(path: str, column: str, **params: Any) -> list[Any]:
        return [row[column] for row in api.get(path, params=params).json()["items"]]

    assert of("/customers/C001/orders", "order_id") == ["O7", "O5", "O3", "O1"]
    assert of("/customers/C001/orders", "order_id", skip=1, limit=2) == ["O5", "O3"]
    page = api.get("/orders", params={"limit": 3}).json()
    assert [row["order_id"] for row in page["items"]] == ["O7", "O6", "O5"]
    assert of("/orders", "order_id", after=page["next"]) == ["O4", "O3", "O2", "O1"]
    assert of("/customers/C001/history", "city") == ["Ulm", "Rome", "Oslo"]
    assert of("/customers/C001/timeline", "op") == ["upsert", "upsert", "upsert", "delete"]
    assert [(r["product_id"], r["currency"]) for r in api.get("/products").json()["items"]] == [
        ("P1", "EUR"), ("P1", "USD"), ("P2", None),
    ]  # fmt: skip
    assert of("/quality", "count_issues") == [3]
    assert of("/customers/nobody/orders", "order_id") == []
    assert api.get("/metrics/realtime").json() == {"minutes": []}
    assert 'c360_stage_seconds{feed="clickstream",quantile="0.95",stage="gold"} 0.9' in api.get("/metrics").text


def test_the_last_minutes_are_told_newest_first(filled: Gold, api: TestClient) -> None:
    for minute in (1, 30, 59):
        filled.put("vw_real_time", (datetime(2026, 3, 1, 12, minute), "purchase", 2, 1, 1, 2, "12.5000"))
    filled.serve()
    told = api.get("/metrics/realtime").json()["minutes"]
    assert [row["happened_minute"] for row in told] == [
        "2026-03-01T12:59:00Z",
        "2026-03-01T12:30:00Z",
        "2026-03-01T12:01:00Z",
    ]
    assert told[0]["revenue"] == "12.5000"
    assert len(api.get("/metrics/realtime", params={"minutes": 30}).json()["minutes"]) == 2
    assert api.get("/metrics/realtime", params={"minutes": 0}).status_code == 422


def test_persons_are_searched_and_seen_by_their_scope_alone(api: TestClient) -> None:
    assert [r["customer_id"] for r in api.get("/customers", params={"email": "c2@example.org"}).json()["items"]] == [
        "C002"
    ]
    assert len(api.get("/customers", params={"name": "Lee"}).json()["items"]) == 6
    assert [r["customer_id"] for r in api.get("/customers", params={"name": "Lee3"}).json()["items"]] == ["C003"]
    assert api.get("/customers", params={"email": "' or 1=1 --"}).json()["items"] == []
    reads = token("read")
    row = api.get("/customers/C006", headers=reads).json()
    assert (row["email"], row["first_name"], row["last_name"], row["city"]) == (None, "***", "***", "Ulm")
    for path in (
        "/customers",
        "/customers/C001/history",
        "/customers/C001/timeline",
        "/customers/C001",
        "/customers/C001?as_of=2026-01-02",
        "/customers/C001?known_at=2026-01-03",
    ):
        response = api.get(path, headers=reads)
        assert response.status_code == 200 and "example.org" not in response.text and "***" in response.text
    # A hash of what was stated, without a key, tells who guesses whether they are right.
    told = api.get("/customers/C001/timeline", params={"limit": 2}, headers=reads).json()
    assert {event["content"] for event in told["items"]} == {"***"}
    page = base64.urlsafe_b64decode(told["next"] + "==").decode()
    assert json.loads(page) == ["2026-02-01T00:00:00.000000", "upsert", "1"]
    for search in ({"email": "c2@example.org"}, {"name": "Lee"}):
        assert "pii:read" in problem(api.get("/customers", params=search, headers=reads), 403)


def test_tokens_that_are_not_for_us_are_refused(api: TestClient) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode({"sub": "x", "exp": time.time() + 60, "scope": "read", "iss": "us"}, other, "RS256")
    secret = jwt.encode({"sub": "x", "exp": time.time() + 60, "scope": "read", "iss": "us"}, "a" * 32, "HS256")
    nothing = jwt.encode({"sub": "x", "exp": time.time() + 60, "scope": "read", "iss": "us"}, None, "none")
    wrong = [
        {"Authorization": f"Bearer {each}"} for each in (forged, secret, nothing, "nonsense", "")
    ] + [token(exp=time.time() - 1), token(iss="them"), {"Authorization": "Basic abc"}, {"Authorization": ""}]  # fmt: skip
    for headers in wrong:
        response = api.get("/customers", headers=headers)
        assert problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert "lack read" in problem(api.get("/customers", headers=token("pii:read")), 403)
    assert api.get("/health", headers={"Authorization": ""}).json()["status"] == "ok"
    soon = token(exp=time.time() + 1)
    assert api.get("/customers/C001", headers=soon).status_code == 200
    time.sleep(1.1)
    assert "expired" in problem(api.get("/customers/C001", headers=soon), 401)


def test_who_asks_too_often_waits(filled: Gold, key: str) -> None:
    with client_of(filled.settings, api_public_key=key, api_rate=3.0) as client:
        told = [client.get("/customers/C001", headers=token()).status_code for _ in range(5)]
        assert told[:3] == [200] * 3 and 429 in told[3:]
        response = client.get("/customers/C001", headers=token())
        assert "3 a second" in problem(response, 429) and int(response.headers["retry-after"]) >= 1
        assert client.get("/customers/C001", headers=token(sub="another")).status_code == 200


def test_less_than_one_request_a_second_is_one_now_and_then(filled: Gold, key: str) -> None:
    with client_of(filled.settings, api_public_key=key, api_rate=0.5) as client:
        told = [client.get("/customers/C001", headers=token()).status_code for _ in range(2)]
        assert told == [200, 429]
        time.sleep(2.1)
        assert client.get("/customers/C001", headers=token()).status_code == 200


def test_ids_may_have_a_slash_and_are_no_paths_of_ours(filled: Gold, key: str) -> None:
    filled.put("vw_customer_360", ("EU/123", *customer(7)[1:]), ("7/orders", *customer(8)[1:]))
    filled.put("vw_order_analytics", ("orders", "O8", "EU/123", datetime(2026, 1, 8), "10.0000", True))
    filled.serve()
    with client_of(filled.settings, api_public_key=key) as client:
        client.headers.update(token())
        for path, told in (("EU%2F123", "EU/123"), ("EU%2f123", "EU/123"), ("7%2Forders", "7/orders")):
            assert client.get(f"/customers/{path}").json()["customer_id"] == told
        assert [row["order_id"] for row in client.get("/customers/EU%2F123/orders").json()["items"]] == ["O8"]
        assert "'EU/1'" in problem(client.get("/customers/EU%2F1"), 404)


def test_what_has_not_changed_is_not_sent_again(api: TestClient, filled: Gold) -> None:
    first = api.get("/customers/C001")
    again = api.get("/customers/C001", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert again.status_code == 304 and not again.content
    assert api.get("/customers/C001", headers=token("read")).headers["etag"] != first.headers["etag"]
    filled.execute("update gold.vw_customer_360 set city = 'Rome' where customer_id = 'C001'")
    filled.serve()
    changed = api.get("/customers/C001", headers={"If-None-Match": first.headers["etag"]})
    assert changed.json()["city"] == "Rome" and changed.headers["x-c360-generation"] == "2"
    assert api.get("/customers", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_pages_of_others_may_ask_where_they_are_named(filled: Gold, key: str) -> None:
    with client_of(filled.settings, api_public_key=key, api_cors=("https://shop.example",)) as client:
        asked = {
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization, if-none-match",
        }
        answer = client.get("/customers", headers=token() | {"Origin": "https://shop.example"})
        assert "ETag" in answer.headers["access-control-expose-headers"]
        allowed = client.options("/customers", headers=asked)
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert (
            "access-control-allow-origin"
            not in client.options("/customers", headers=asked | {"Origin": "https://x.example"}).headers
        )


def test_a_browser_is_shown_the_paths_and_where_a_token_goes(api: TestClient) -> None:
    unknown = {"Authorization": ""}
    assert api.get("/docs", headers=unknown).status_code == 200
    told = api.get("/openapi.json", headers=unknown).json()
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert told["paths"]["/customers"]["get"]["security"] and "security" not in told["paths"]["/health"]["get"]
    problem(api.get("/customers", headers=unknown), 401)


def test_a_page_is_of_the_generation_that_it_names(
    filled: Gold, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the next one is written between its rows and its name."""
    kept = reads.listed

    def slow(*asked: Any) -> bytes:
        filled.execute("update gold.vw_customer_360 set city = 'Rome'")
        filled.serve()
        return kept(*asked)

    monkeypatch.setattr(reads, "listed", slow)
    first = api.get("/customers")
    assert {row["city"] for row in first.json()["items"]} == {"Ulm"} and first.headers["x-c360-generation"] == "1"
    monkeypatch.undo()
    second = api.get("/customers")
    assert {row["city"] for row in second.json()["items"]} == {"Rome"} and second.headers["x-c360-generation"] == "2"


def test_rows_and_the_name_of_their_generation_are_of_one_state_of_the_store(
    filled: Gold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next generation is written as soon as the first question has its answer."""
    asked = Reads(Store(filled.settings.serving_url))

    def meanwhile(sql: str) -> None:
        if sql == reads.GENERATION:
            filled.execute("update gold.vw_customer_360 set city = 'Rome'")
            filled.serve()

    class Opened:
        def __init__(self, opened: Any) -> None:
            self._opened = opened

        def execute(self, sql: str, *bound: Any) -> Any:
            found = self._opened.execute(sql, *bound)
            meanwhile(sql)
            return found

    def rows(read: Snapshot, sql: str, values: Any) -> Any:
        found = answered(read, sql, values)
        meanwhile(sql)
        return found

    opened, answered = asked._opened, Snapshot.rows
    monkeypatch.setattr(asked, "_opened", lambda: Opened(opened()))
    monkeypatch.setattr(Snapshot, "rows", rows)
    city = "select doc from customers where customer_id = 'C001'"
    generation, found = asyncio.run(asked.of_generation(city, {}))
    assert generation.split()[0] == "1" and "Ulm" in found[0][0]
    monkeypatch.undo()
    assert "Rome" in asyncio.run(asked.rows(city, {}))[0][0]
    asked.close()


@pytest.mark.parametrize("gold", ["sqlite"], indirect=True)
def test_another_store_in_its_place_is_noticed(filled: Gold, api: TestClient, tmp_path: Path) -> None:
    """A restore puts one there while the API runs."""
    assert api.get("/customers/C001").json()["city"] == "Ulm"
    assert filled.store.served() is not None
    home, other = filled.settings.home, tmp_path / "other"
    shutil.copytree(home, other)
    moved = Gold(Settings(**(vars(filled.settings) | {"home": other})), Store(f"sqlite:///{other}/serving.sqlite"))
    moved.execute("update gold.vw_customer_360 set city = 'Oslo'")
    moved.serve()
    moved.store.close()
    home.rename(tmp_path / "aside")
    assert problem(api.get("/customers/C001"), 503)
    other.rename(home)
    assert api.get("/customers/C001").json()["city"] == "Oslo"
    held = filled.store.served()
    assert held is not None and held.generation == 2


def test_without_a_key_this_machine_is_served_and_persons_are_not_shown(filled: Gold) -> None:
    with client_of(filled.settings) as client:
        row = client.get("/customers/C001").json()
        assert (row["city"], row["email"]) == ("Ulm", "***")
        assert client.get("/customers/C001", headers={"Host": "evil.example"}).status_code == 400


def test_counts_are_told_to_prometheus(api: TestClient) -> None:
    api.get("/customers/C001")
    api.get("/customers/none")
    text = api.get("/metrics").text
    assert 'c360_requests_total{path="/customers/{customer_id}",status="200"} 1.0' in text
    assert 'c360_requests_total{path="/customers/{customer_id}",status="404"} 1.0' in text
    assert "c360_served_generation 1.0" in text


def test_what_is_not_there_is_a_problem_too(api: TestClient) -> None:
    problem(api.get("/nowhere"), 404)
    problem(api.post("/customers"), 405)
    # What no instant, no cursor and no text can be ends in a problem as well.
    problem(api.get("/customers/C001", params={"as_of": "0001-01-01T00:00:00+01:00"}), 422)
    for cursor in (b'["\\ud800"]', b"[" * 2_000):
        problem(api.get("/customers", params={"after": base64.urlsafe_b64encode(cursor).decode()}), 404)
    assert "'\x00'" in problem(api.get("/customers/%00"), 404)


def test_an_error_of_ours_is_a_problem_that_says_nothing_of_it(
    filled: Gold, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret")

    monkeypatch.setattr("serving.api.reads.listed", broken)
    with client_of(filled.settings, api_public_key=key) as client:
        response = client.get("/customers", headers=token())
        assert "log" in problem(response, 500) and "secret" not in response.text


def test_before_anything_is_served_it_says_so(gold: Gold) -> None:
    with client_of(gold.settings) as client:
        for path in ("/customers", "/customers/C1", "/health", "/quality"):
            assert "c360 sync" in problem(client.get(path), 503)
