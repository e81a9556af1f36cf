"""Commands that go on until they are stopped: `c360 up`, `api` and `dashboard`, and `prepare` before them."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from c360_assets import local
from c360_assets.cli import DONE, ERROR, UsageError, say
from c360_assets.feeds import load_feeds
from c360_assets.parts import Parts
from c360_assets.settings import PROJECT, Settings
from c360_assets.streams import broker
from c360_assets.warehouse import open_warehouse

# Seconds after which it is no fault of ours that Dagster ends, such as a port that somebody else has.
SOUND = 30.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def prepare(options: argparse.Namespace, settings: Settings) -> int:
    from c360_assets import transform

    load_feeds([settings.dbt_project / "models" / "staging"])
    was_here = (settings.dagster_home / "dagster.yaml").exists()
    local.prepare_home(settings)
    if was_here:
        with local.dagster_instance(settings):
            pass  # what dead processes left is cleared away
    if settings.s3_endpoint:
        local.landing_bucket(settings).ensure()
    transform.prepare_manifest(settings.dbt_project, settings.dbt_home, open_warehouse(settings, announce=say))
    return DONE


def api(options: argparse.Namespace, settings: Settings) -> int:
    """The API until it is stopped. Who cannot be known by a token is on this machine, or is not served."""
    import uvicorn

    if not settings.api_public_key and options.host not in LOOPBACK:
        raise UsageError(
            f"--host {options.host}: without C360_API_PUBLIC_KEY only this machine is served; name the file with the "
            "public key of who signs your tokens, or listen on 127.0.0.1"
        )
    if settings.api_public_key and not Path(settings.api_public_key).expanduser().is_file():
        raise UsageError(f"C360_API_PUBLIC_KEY is '{settings.api_public_key}', and there is no such file")
    say(f"API: http://{options.host}:{options.port}   its paths: /docs   Ctrl-C stops it")
    uvicorn.run(
        "serving.api.app:from_environment", factory=True, host=options.host, port=options.port,
        workers=options.workers, access_log=False, log_level="warning", server_header=False,
    )  # fmt: skip
    return DONE


def dashboard(options: argparse.Namespace, settings: Settings) -> int:
    """The dashboards until they are stopped. They know nobody by name: who reaches them sees them."""
    if not _is_there("streamlit"):
        raise UsageError("the dashboards need streamlit, which is not installed: pip install 'c360[dashboard]'")
    if options.host not in LOOPBACK and not options.behind_proxy:
        raise UsageError(
            f"--host {options.host}: the dashboards ask nobody who they are; listen on 127.0.0.1, or put a proxy that "
            "does in front of them and say --behind-proxy"
        )
    # Who is asked to end by a signal takes the server along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"Dashboards: http://{options.host}:{options.port}   Ctrl-C stops them")
    shown = ["--personal"] if options.personal else []
    served = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", PROJECT / "serving" / "dashboard" / "app.py",
         "--server.address", options.host, "--server.port", str(options.port), "--server.headless", "true",
         "--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false", "--client.toolbarMode", "viewer",
         "--logger.level", "warning", "--runner.postScriptGC", "false", "--", *shown],
        stdout=subprocess.DEVNULL, cwd=settings.home if settings.home.is_dir() else None,
    )  # fmt: skip
    try:
        return ERROR if served.wait() else DONE
    finally:
        local.stop(served, patience=10)


def worker(options: argparse.Namespace, settings: Settings) -> int:
    """The worker of this home until it is stopped; what it is at by then is finished first."""
    from c360_assets import lease, runs

    warehouse = open_warehouse(settings, announce=say)
    asked: list[int] = []
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, _: asked.append(number))
    with lease.taken(settings.home), local.embedded_s3(settings):
        local.landing_bucket(settings).ensure()
        with local.dagster_instance(settings) as instance:
            # What a young home, a dead run or a broken rebuild has left is for a run that starts from nothing.
            with lease.beating(settings.home):
                code = runs.sync(settings, instance, say=say)
            if code == ERROR:
                return code
            # In a thread of its own: in the main one Dagster and Snowflake's connector take signals for themselves, and
            # end the run that they are in.
            with ThreadPoolExecutor(1, "worker") as own:
                own.submit(runs.work, settings, instance, warehouse, lambda: bool(asked), say).result()
    return DONE


def up(options: argparse.Namespace, settings: Settings) -> int:
    """S3, Dagster, API, dashboards and, if asked, the generator, until Ctrl-C; whatever stops first stops the rest."""
    # Set anew also for Ctrl-C: a shell may have started us, and would start our children, with it ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with local.embedded_s3(settings) as endpoint:
        local.landing_bucket(settings).ensure()
        with local.dagster_instance(settings) as instance:
            local.reap(instance, settings.spool, alone=True)
        prepare(options, settings)
        dagster: list[str | Path] = [Path(sys.executable).with_name("dagster"), "dev", "-w", PROJECT / "workspace.yaml",
                   "-p", str(options.port), "-h", "127.0.0.1"]  # fmt: skip
        parts = Parts(say)
        try:
            parts.add("Dagster", dagster, cwd=settings.dagster_home, again=True, sound_after=SOUND)
            parts.add("the API", _own("api", "--port", str(options.api_port)))
            if _is_there("streamlit"):
                parts.add("the dashboards", _own("dashboard", "--port", str(options.dashboard_port)))
            if settings.warehouse == "duckdb" and not options.no_worker:
                parts.add("the worker", _own("worker"), again=True)
            bootstrap = _streams(settings, endpoint, parts)
            if options.generate:
                _generate(settings, endpoint, bootstrap, options.clicks, parts)
            say(f"Dagster UI: http://127.0.0.1:{options.port}   S3: {endpoint}   Ctrl-C stops it all")
            stopped = parts.watch(partial(_keep_s3, settings, endpoint))
            say(f"c360 up: {stopped} has stopped")
            return ERROR
        except KeyboardInterrupt:
            say("stopping")
            return DONE
        finally:
            parts.stop()


def _keep_s3(settings: Settings, endpoint: str) -> None:
    if not settings.s3_endpoint and local.keep_s3(settings.home, endpoint):
        say("S3 was gone, and is there again")


def _streams(settings: Settings, endpoint: str, parts: Parts) -> str:
    """A consumer, and the broker of this machine if no other is named and its program is there; where the broker is."""
    if not _is_there("confluent_kafka") or FEED not in load_feeds([settings.dbt_project / "models" / "staging"]):
        return ""
    bootstrap = settings.kafka_bootstrap
    if not bootstrap:
        if broker.program() is None:
            return ""
        port = local.free_port()
        bootstrap = f"127.0.0.1:{port}"
        local.ensure_bucket(settings, broker.BUCKET)
        kept = broker.on_s3(endpoint) | (local.embedded_environment() if not settings.s3_endpoint else {})
        parts.add("the broker", broker.command(port, f"s3://{broker.BUCKET}/"), again=True, environment=kept)
        broker.await_listening(port)
        broker.ensure_topic(bootstrap, CLICKS, 2)
        say(f"Kafka: {bootstrap}")
    parts.add(
        "the consumer", _own("stream", "kafka", "--bootstrap", bootstrap, "--topic", CLICKS, "--feed", FEED), again=True
    )
    return bootstrap


def _own(*arguments: str) -> list[str | Path]:
    """A command of ours."""
    return [Path(sys.executable).with_name("c360"), *arguments]


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


CLICKS, FEED = "clickstream_events", "clickstream"

_RATE = ("--rate", "0.03")  # files a second
# What `up --generate` lands, now and then: a generator and what it is told.
GENERATED = {
    "customers": ("--customers", "1000", "--days", "1", "--interval", "150", "--rows-per-file", "500", *_RATE),
    "pos": ("--stores", "5", "--days", "3", "--interval", "600", "--receipts-per-object", "50", *_RATE),
    "shop": ("--customers", "1000", "--days", "1", "--interval", "3600", "--orders-per-file", "50", *_RATE),
}


def _generate(settings: Settings, endpoint: str, bootstrap: str, clicks: float, parts: Parts) -> None:
    environment = {"AWS_ENDPOINT_URL": endpoint}
    if not settings.s3_endpoint:
        environment |= local.embedded_environment()
    out = f"s3://{settings.bucket}/{settings.prefix}"
    made = {feed: [feed, *told, "--faults", "--out", out] for feed, told in GENERATED.items()}
    if bootstrap:
        told = ["--rate", str(clicks), "--out", f"kafka://{bootstrap}/{CLICKS}"]
        made["clickstream"] = ["clickstream_live", *told]
    for feed, arguments in made.items():
        # One that has sent all it had is done, and no reason to stop.
        command = [sys.executable, "-m", "generator", *arguments]
        parts.add(f"the generator of {feed}", command, cwd=PROJECT, environment=environment, may_end=True)
