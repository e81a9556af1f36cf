"""Local: the parts that run beside the platform on one machine, and what a dead process left behind.

Belongs here: the embedded S3 (start, stop, health), the Dagster instance of a home, runs and spool folders whose
process is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import dagster as dg
import psutil

from c360_assets.landing import Bucket, LandingError
from c360_assets.object_events import ObjectEvents
from c360_assets.processes import born, is_alive, is_dead, is_named_here
from c360_assets.settings import Settings
from c360_assets.spool import clear_spool

EMBEDDED: Any = {"aws_access_key_id": "embedded", "aws_secret_access_key": "embedded"}
_SERVICES = "s3,sqs,kinesis,firehose,events"
EVENTS_QUEUE = "c360-objects"


def embedded_environment() -> dict[str, str]:
    """What a client of AWS has to find in its environment to speak to the embedded S3."""
    return {
        "AWS_ACCESS_KEY_ID": EMBEDDED["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": EMBEDDED["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def s3_endpoint(home: Path) -> str:
    """Where the embedded S3 of this home answers.

    Raises:
        LandingError: if none does.
    """
    endpoint = running_s3(home)
    if endpoint is None:
        raise LandingError(
            f"no S3 answers for {home}: start it with `c360 up`, or set AWS_ENDPOINT_URL "
            "(a c360 command starts one for itself)"
        )
    return endpoint


def running_s3(home: Path) -> str | None:
    noted = _noted(home)
    return noted[0] if noted is not None and is_alive(*noted[1]) and _healthy(noted[0]) else None


def _noted(home: Path) -> tuple[str, tuple[int, str]] | None:
    """Endpoint, and process id with its birth, of the embedded S3, as its starter noted them."""
    try:
        noted = json.loads(_note(home).read_text())
        return str(noted["endpoint"]), (int(noted["pid"]), str(noted["born"]))
    except (OSError, ValueError, KeyError):
        return None


def landing_bucket(settings: Settings) -> Bucket:
    """The bucket of the settings, over dagster-aws; on the embedded S3 of this home where no endpoint is set."""
    endpoint = settings.s3_endpoint or s3_endpoint(settings.home)
    return Bucket(_client(endpoint, not settings.s3_endpoint), settings.bucket, settings.prefix)


@cache
def _client(endpoint: str, embedded: bool) -> Any:
    """One client for all feeds: making one reads megabytes of service descriptions."""
    # Imported here: it takes most of a second, and what only asks the warehouse does without.
    from dagster_aws.s3 import S3Resource

    # The embedded one checks no secret, but boto3 sends nothing without one.
    known: dict[str, Any] = {"region_name": "us-east-1", **EMBEDDED} if embedded else {}
    return S3Resource(endpoint_url=endpoint, max_attempts=5, **known).get_client()


def object_events(settings: Settings) -> ObjectEvents | None:
    """The queue of the settings; on the embedded S3 one that it tells of every object. None where there is none."""
    client = aws_client(settings, "sqs")
    if settings.s3_endpoint:
        return ObjectEvents(client, settings.events_queue, settings.bucket) if settings.events_queue else None
    url = client.create_queue(QueueName=EVENTS_QUEUE, Attributes={"VisibilityTimeout": "120"})["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    _client(s3_endpoint(settings.home), True).put_bucket_notification_configuration(
        Bucket=settings.bucket, NotificationConfiguration=told
    )
    return ObjectEvents(client, url, settings.bucket)


def object_events_of(settings: Settings) -> Callable[[], ObjectEvents | None] | None:
    """What reaches the queue that the settings name; None where they name none, and sensors list."""
    return partial(object_events, settings) if settings.events_queue else None


def aws_client(settings: Settings, service: str) -> Any:
    """A client of the service as boto3's own settings have it; beside the embedded S3 where no endpoint is set."""
    if settings.s3_endpoint:
        return boto3.client(service)
    return boto3.client(service, endpoint_url=s3_endpoint(settings.home), region_name="us-east-1", **EMBEDDED)


def ensure_bucket(settings: Settings, name: str) -> None:
    """Another bucket beside the landing one."""
    there = landing_bucket(settings)
    Bucket(there.client, name, "").ensure()


@contextmanager
def embedded_s3(settings: Settings) -> Iterator[str]:
    """Yields the endpoint of this home's S3, started if there is none; the last of those who use it stops it.

    Who uses it holds a shared lock, which ends with the process however that ends.
    """
    if settings.s3_endpoint:
        yield settings.s3_endpoint
        return
    home = settings.home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "s3.turn").open("w") as turn, (home / "s3.users").open("w") as users:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        endpoint = running_s3(home) or start_s3(home)
        fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            yield endpoint
        finally:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_s3(home)


def keep_s3(home: Path, endpoint: str) -> bool:
    """Starts the embedded S3 of the home again, where it was, if its process is gone; was it? A slow one is not."""
    noted = _noted(home)
    if noted is not None and is_alive(*noted[1]):
        return False
    start_s3(home, port=urlsplit(endpoint).port)
    return True


def start_s3(home: Path, port: int | None = None) -> str:
    """Starts ministack on disk, on this port of the loopback or a free one; returns its endpoint when it answers."""
    end_s3(home)
    data = home / "s3"
    (data / "objects").mkdir(parents=True, exist_ok=True)
    (data / "state").mkdir(exist_ok=True)
    port = port or free_port()
    environment = os.environ | {
        "BIND_HOST": "127.0.0.1",  # without it ministack listens everywhere, and asks for no password
        "GATEWAY_PORT": str(port),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data / "objects"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(data / "state"),
        "SERVICES": _SERVICES,
        "LOG_LEVEL": "WARNING",
    }
    with (data / "log").open("ab") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ministack")],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 30
    while not _healthy(endpoint):
        if process.poll() is not None or time.monotonic() > until:
            end_s3(home)
            raise LandingError(f"the embedded S3 did not start; see {data / 'log'}")
        time.sleep(0.05)
    note = _note(home)
    note.with_suffix(".new").write_text(
        json.dumps({"endpoint": endpoint, "pid": process.pid, "born": born(process.pid)})
    )
    note.with_suffix(".new").rename(note)
    return endpoint


def end_s3(home: Path) -> None:
    """Ends every S3 that serves this home, also one whose command was killed before it could note it."""
    _note(home).unlink(missing_ok=True)
    serving = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_s3 = any(part.endswith("ministack") for part in process.cmdline())
            if is_s3 and process.environ().get("S3_DATA_DIR") == str(home / "s3" / "objects"):
                process.terminate()
                serving.append(process)
    _, alive = psutil.wait_procs(serving, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stop(process: subprocess.Popen[bytes], patience: float = 5.0, ask: signal.Signals = signal.SIGTERM) -> None:
    """Asks the leader of a group to end, then ends what is left of the group: children outlive a dead parent."""
    if process.poll() is None:
        process.send_signal(ask)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for last_word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, last_word)
            until = time.monotonic() + patience
            while _group_lives(process.pid) and time.monotonic() < until:
                process.poll()
                time.sleep(0.05)
    process.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of this home, with what dead processes left cleared away."""
    prepare_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        reap(instance, settings.spool)
        yield instance


def prepare_home(settings: Settings) -> None:
    """Folders of a home, and the instance configuration of the settings in it."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    os.environ["C360_HOME"] = str(settings.home)
    (settings.dagster_home / "dagster.yaml").write_text(settings.dagster_config.read_text())


def reap(instance: dg.DagsterInstance, spool: Path, *, alone: bool = False) -> list[str]:
    """Ends runs whose process is gone, frees their pool slots, removes their spool folders; returns the runs' ids.

    `alone`: nothing else of this home runs (the daemon is about to start), so a run that names no process of this host
    is dead too.
    """
    ended = []
    at_work = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    # One that has not begun names a process only where that was about to run it; others wait to be launched.
    begun_or_created = [*at_work, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=begun_or_created)):
        if is_dead(run.tags) or (alone and run.status in at_work and not is_named_here(run.tags)):
            instance.report_run_failed(
                run, "The process of this run is gone. What it left is finished by the next run."
            )
            ended.append(run.run_id)
    # Also of runs that were reported before their slots were freed.
    storage = instance.event_log_storage
    for key in storage.get_concurrency_keys():
        for slot in storage.get_concurrency_info(key).claimed_slots:
            holder = instance.get_run_by_id(slot.run_id)
            if holder is None or holder.is_finished:
                storage.free_concurrency_slots_for_run(slot.run_id)
    clear_spool(spool)
    return ended


def _note(home: Path) -> Path:
    return home / "s3.json"


def _healthy(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
