"""The API on a million customers, by wrk over loopback: at rest, and while a run writes; beside a bare FastAPI and the way of before.

    python -m bench.api [--customers 1000000] [--seconds 10]

Ours has everything on: token, scope, masking, rate, ETag, counts; the store is SQLite, filled by the serving step itself from gold in
DuckDB. While it is measured the second time that step serves a hundredth of the customers anew, again and again, niced and with one
thread. The bare one answers a constant; the way of before asks PostgreSQL, where it is installed, on a connection for each request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.parts import home, report
from c360_assets import serve
from c360_assets.settings import Settings
from c360_assets.store import Store
from c360_assets.warehouse import open_warehouse

PORT = 8765
PERSONAL = ("email", "first_name", "last_name", "phone", "street")
GOLD = """
create or replace table gold.vw_customer_360 as select
  'C' || i as customer_id, 'City ' || hash(i) % 500 as city, 'Country ' || i % 30 as country, 'ann' || i || '@example.org' as email,
  'Ann' as first_name, 'Lee' || i as last_name, '+49 30 ' || i as phone, i || ' Long Street' as street, timestamp '2026-01-01' as valid_from,
  3 as count_versions, i % 20 as count_orders, 'EUR' as currency, cast(i % 999 as decimal(38, 4)) as gross_revenue,
  'loyal' as segment, timestamp '2026-06-01' as last_order_at, timestamp '2026-07-01' as last_seen_at
from range({}) as r(i)
"""
SCRIPT = """
request = function() return wrk.format("GET", "/customers/C" .. math.random(0, {most}), {{["Authorization"] = "Bearer {token}"}}) end
"""
WRITER = "import sys; from bench.api import write_on; write_on(sys.argv[1])"


def filled(settings: Settings, customers: int) -> None:
    with open_warehouse(settings).writing("bench") as session:
        session.execute("create schema gold")
        session.execute("create table gold.consumed_batches (model varchar, batch varchar)")
        session.execute(GOLD.format(customers))
    served(settings)


def served(settings: Settings) -> None:
    sources = [each for each in serve.sources(PERSONAL) if each.shape.name == "customers"]
    serve.serve(sources, sources, open_warehouse(settings), Store(settings.serving_url))


def write_on(place: str) -> None:
    """A process of its own: a hundredth of the customers change, and are served, until it is ended."""
    os.nice(19)
    settings, turn = home(Path(place)), 0
    while True:
        turn += 1
        with open_warehouse(settings).writing("bench") as session:
            session.execute("set threads = 1")
            session.execute(
                "update gold.vw_customer_360 set city = ? where cast(substr(customer_id, 2) as bigint) % 100 = ?",
                [f"City {turn}", turn % 100],
            )
        served(settings)


@contextmanager
def running(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*map(str, command)], env=os.environ | environment)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/openapi.json")
            except urllib.error.HTTPError:
                break  # it wants a token: it is there
            except OSError:
                assert process.poll() is None, f"{command} ended at once"
                time.sleep(0.05)
            else:
                break
        yield process
    finally:
        process.terminate()
        process.wait(20)


def asked(folder: Path, most: int, token: str, seconds: int) -> dict[str, Any]:
    """wrk, one thread and 16 connections, after two seconds of warming."""
    script = folder / "random.lua"
    script.write_text(SCRIPT.format(most=most, token=token))
    command = ["wrk", "-t1", "-c16", "--latency", "-s", str(script), f"http://127.0.0.1:{PORT}"]
    subprocess.run([*command, "-d2s"], check=True, capture_output=True)
    told = subprocess.run([*command, f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in told, told
    return {
        "requests/s": float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0]),
        "p50 ms": _ms(re.findall(r"50%\s+([\d.]+)(us|ms|s)", told)[0]),
        "p99 ms": _ms(re.findall(r"99%\s+([\d.]+)(us|ms|s)", told)[0]),
    }


def _ms(told: tuple[str, str]) -> float:
    return round(float(told[0]) * {"us": 0.001, "ms": 1, "s": 1000}[told[1]], 2)


@contextmanager
def postgres(folder: Path, customers: int) -> Iterator[str | None]:
    """A server of our own with the same rows; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        yield None
        return
    import psycopg

    user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    place = Path(tempfile.mkdtemp(prefix="c360-pg-"))
    shutil.chown(place, "nobody", "nogroup") if user else None
    subprocess.run(
        [found[-1], "-D", place / "data", "-U", "c360", "--auth", "trust"],
        check=True,
        capture_output=True,
        cwd=place,
        **user,
    )
    server = subprocess.Popen(
        [found[-1].with_name("postgres"), "-D", place / "data", "-p", str(PORT + 1), "-c", f"unix_socket_directories={place}"],
        stderr=subprocess.DEVNULL, cwd=place, **user,
    )  # fmt: skip
    url = f"host=127.0.0.1 port={PORT + 1} user=c360 dbname=postgres"
    try:
        for _ in range(200):
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.05)
        with psycopg.connect(url) as connection:
            connection.execute("create table customers (customer_id text primary key, doc jsonb not null)")
            connection.execute(
                "insert into customers select 'C' || i, jsonb_build_object('customer_id', 'C' || i, 'city', 'City ' || i % 500, 'email', i || '@example.org') "
                f"from generate_series(0, {customers - 1}) as s(i)"
            )
        yield url
    finally:
        server.send_signal(2)
        server.wait(20)
        shutil.rmtree(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is needed: apt install wrk")
    folder = Path(tempfile.mkdtemp(prefix="c360-bench-"))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = folder / "key.pem"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    token = jwt.encode({"sub": "bench", "exp": time.time() + 7200, "scope": "read"}, key, "RS256")
    c360, uvicorn = Path(sys.executable).with_name("c360"), Path(sys.executable).with_name("uvicorn")
    most = options.customers - 1
    found: dict[str, Any] = {"customers": options.customers}

    def bare() -> dict[str, Any]:
        with running(uvicorn, "bench.api_peers:bare", "--port", str(PORT), "--no-access-log", "--log-level", "warning"):
            return asked(folder, most, token, options.seconds)

    try:
        settings = home(folder / "home")
        filled(settings, options.customers)
        found["bare FastAPI"] = bare()
        ours = {"C360_HOME": str(settings.home), "C360_API_PUBLIC_KEY": str(public), "C360_API_RATE": "1000000"}
        with running(c360, "api", "--port", str(PORT), **ours):
            found["ours at rest"] = asked(folder, most, token, options.seconds)
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(settings.home)])
            try:
                time.sleep(3)
                found["ours while a run writes"] = asked(folder, most, token, 2 * options.seconds)
            finally:
                writer.kill()
                writer.wait()
        found["generations written meanwhile"] = _generation(settings) - 1
        found["bare FastAPI again"] = bare()
        with postgres(folder, options.customers) as url:
            if url:
                with running(
                    uvicorn,
                    "bench.api_peers:before",
                    "--port",
                    str(PORT),
                    "--no-access-log",
                    "--log-level",
                    "warning",
                    BENCH_POSTGRES=url,
                ):
                    found["the way of before"] = asked(folder, most, token, options.seconds)
    finally:
        shutil.rmtree(folder)
    best = max(found["bare FastAPI"]["requests/s"], found["bare FastAPI again"]["requests/s"])
    found["ours / bare, requests/s"] = round(found["ours at rest"]["requests/s"] / best, 2)
    found["p99 while a run writes / at rest"] = round(
        found["ours while a run writes"]["p99 ms"] / found["ours at rest"]["p99 ms"], 2
    )
    report("api", found)


def _generation(settings: Settings) -> int:
    held = Store(settings.serving_url).served()
    return held.generation if held else 0


if __name__ == "__main__":
    main()
