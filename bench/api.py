"""The API on a million customers, by wrk over loopback: at rest, and while a sync writes; beside a bare FastAPI and the way of before.

    python -m bench.api [--customers 1000000] [--seconds 10]

Ours has everything on: token, scope, masking, rate, ETag, counts; the store is SQLite, filled by `c360 sync` of a file of all customers
on S3. It is measured the second time for as long as another `c360 sync` takes, niced and on one core, of a hundredth of them that have
changed. The bare one answers a constant; the way of before asks PostgreSQL, where it is installed, on a connection for each request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
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

import duckdb
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.parts import home, land, report, sync
from c360_assets import local
from c360_assets.settings import Settings
from c360_assets.store import Store

PORT = 8765
CUSTOMERS = """
copy (
  select
    'C' || i as customer_id, 'Ann' as first_name, 'Lee' || i as last_name, 'ann' || i || '@example.org' as email,
    '+49 30 ' || i as phone, i || ' Long Street' as street, '{city} ' || hash(i) % 500 as city, 'Country ' || i % 30 as country,
    'loyal' as customer_segment, '{day}T00:00:00Z' as updated_at
  from range({customers}) as r(i)
  where i % {every} = 0
) to '{path}' (header)
"""
SCRIPT = """
request = function() return wrk.format("GET", "/customers/C" .. math.random(0, {most}), {{["Authorization"] = "Bearer {token}"}}) end
"""


def landed(settings: Settings, folder: Path, customers: int, city: str, day: str, every: int = 1) -> None:
    """A file of every so many customers, who live in that city since that day."""
    path = folder / f"customer_{day.replace('-', '')}000000.csv"
    duckdb.execute(CUSTOMERS.format(city=city, day=day, customers=customers, every=every, path=path))
    land(settings, "customers", [path])


def one_core_niced() -> None:
    """Of a process that begins, and of all that it starts."""
    os.nice(19)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


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


def asked(
    folder: Path, most: int, token: str, seconds: int, until: subprocess.Popen[bytes] | None = None
) -> dict[str, Any]:
    """wrk, one thread and 16 connections, after two seconds of warming; for so long, or until a process has ended."""
    script = folder / "random.lua"
    script.write_text(SCRIPT.format(most=most, token=token))
    command = ["wrk", "-t1", "-c16", "--latency", "-s", str(script), f"http://127.0.0.1:{PORT}"]
    subprocess.run([*command, "-d2s"], check=True, capture_output=True)
    began = time.monotonic()
    with subprocess.Popen([*command, f"-d{3600 if until else seconds}s"], stdout=subprocess.PIPE, text=True) as wrk:
        if until:
            until.wait()
            wrk.send_signal(signal.SIGINT)  # it tells what it has found so far
        told, _ = wrk.communicate()
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    return {
        "seconds": round(time.monotonic() - began),
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

    settings = home(folder / "home")
    try:
        with local.embedded_s3(settings):
            landed(settings, folder, options.customers, "City", "2026-01-01")
            sync(settings)
            before = _generation(settings)
            found["bare FastAPI"] = bare()
            ours = {"C360_HOME": str(settings.home), "C360_API_PUBLIC_KEY": str(public), "C360_API_RATE": "1000000"}
            with running(c360, "api", "--port", str(PORT), **ours):
                found["ours at rest"] = asked(folder, most, token, options.seconds)
                landed(settings, folder, options.customers, "Town", "2026-02-01", every=100)
                writer = subprocess.Popen(
                    [c360, "sync"], env=os.environ | ours, preexec_fn=one_core_niced, stderr=subprocess.DEVNULL
                )
                found["ours while a sync writes"] = asked(folder, most, token, 0, until=writer)
                assert writer.returncode == 0, f"c360 sync ended with {writer.returncode}"
            found["generations written meanwhile"] = _generation(settings) - before
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
    found["p99 while a sync writes / at rest"] = round(
        found["ours while a sync writes"]["p99 ms"] / found["ours at rest"]["p99 ms"], 2
    )
    report("api", found)


def _generation(settings: Settings) -> int:
    held = Store(settings.serving_url).served()
    return held.generation if held else 0


if __name__ == "__main__":
    main()
