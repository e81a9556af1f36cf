"""The generator: equal arguments give equal bytes, every fault that is asked for happens, and each is accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator import __main__ as command
from generator.customers import HEADER, CustomerSpec, generate
from generator.faults import MIX, Faults
from generator.objects import GeneratedObject
from generator.truth import ObjectsTruth, truth_of_generated
from generator.values import instant, instant_of_name

SMALL = CustomerSpec(customers=120, days=1, interval=3600, rows_per_file=60, seed=7)


@cache
def run(faults: Faults, spec: CustomerSpec = SMALL) -> list[GeneratedObject]:
    return list(generate(replace(spec, faults=faults)))


def records(sent: GeneratedObject) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sent.body.decode())))


def truth(faults: Faults, spec: CustomerSpec = SMALL) -> ObjectsTruth:
    return truth_of_generated(run(faults, spec))


def name_instants(objects: list[GeneratedObject]) -> list[datetime]:
    instants = [instant_of_name(each.name) for each in objects]
    assert None not in instants
    return [each for each in instants if each is not None]


# --- clean ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    spec = replace(SMALL, faults=MIX)
    assert list(generate(spec)) == list(generate(spec))
    assert next(iter(generate(replace(spec, seed=8)))).body != next(iter(generate(spec))).body


def test_equal_arguments_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    arguments = ["customers", "--customers", "2000", "--days", "0.1", "--rows-per-file", "900", "--faults"]
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "generator", *arguments, "--out", tmp_path / hash_seed],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
        )
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / seed / "customers").iterdir()} for seed in "12")
    assert one == two


def test_a_clean_run_has_a_file_per_interval_named_by_its_instant() -> None:
    objects = run(Faults())
    assert [each.name for each in objects[:2]] == [
        "customers/customer_20260101000000.csv",
        "customers/customer_20260101010000.csv",
    ]
    assert len(objects) == SMALL.files == 24
    assert [each.arrival for each in objects] == list(range(24))
    assert [each.modified for each in objects] == name_instants(objects)


def test_a_clean_run_has_the_customers_header_and_is_accepted_whole() -> None:
    objects = run(Faults())
    assert {each.body.split(b"\n", 1)[0] for each in objects} == {",".join(HEADER).encode()}
    assert not any(each.refused or each.unreadable for each in objects)
    total = truth(Faults()).total
    assert total.received == total.accepted == 60 * 24


def test_a_file_names_a_customer_once() -> None:
    for each in run(Faults()):
        assert max(Counter(row["customer_id"] for row in records(each)).values()) == 1


def test_every_customer_appears_and_later_rows_change_some_columns_or_none() -> None:
    result = truth(Faults()).truth
    assert len(result.current) == SMALL.customers
    log_size, versions = len(result.log), len(result.history)
    assert SMALL.customers < versions < log_size  # there are changes, and there are no-ops
    changed = {
        frozenset(name for name in HEADER if one[name] != other[name])
        for one, other in pairwise(result.history)
        if one["customer_id"] == other["customer_id"]
    }
    assert {frozenset({"email"}), frozenset({"last_name", "email"})} < changed
    assert frozenset({"street", "city", "state", "country"}) in changed
    assert not any({"customer_id", "first_name"} & columns for columns in changed)


def test_clean_text_has_quoted_commas_and_letters_beyond_ascii() -> None:
    body = b"".join(each.body for each in run(Faults()))
    assert b'"' in body
    assert not body.isascii()


# --- faults -----------------------------------------------------------------------------------------------------------


def test_late_files_arrive_after_files_of_a_later_instant() -> None:
    instants = name_instants(run(Faults(late=0.2)))
    overtaken = [at for at, each in enumerate(instants) if each < max(instants[:at], default=each)]
    assert len(overtaken) == 5
    assert sorted(instants) == name_instants(run(Faults()))


def test_late_files_change_nothing_in_the_end() -> None:
    assert truth(Faults(late=0.5)).truth == truth(Faults()).truth


def test_duplicate_files_have_the_same_name_and_bytes() -> None:
    objects = run(Faults(duplicate_files=0.2))
    assert len(objects) == 24 + 5
    assert len({each.name for each in objects}) == len({(each.name, each.body) for each in objects}) == 24
    assert truth(Faults(duplicate_files=0.2)).truth == truth(Faults()).truth


@pytest.mark.parametrize("ties", [0.0, 0.05])
def test_renamed_files_are_duplicates_whether_rows_or_names_give_the_time(ties: float) -> None:
    faults = Faults(renamed_files=0.5, ties=ties)
    copies = [each for each in run(faults) if "_copy" in each.name]
    assert len(copies) == 12
    originals = {each.body: each.name for each in run(faults) if "_copy" not in each.name}
    assert all(copy.body in originals for copy in copies)
    assert any(instant_of_name(copy.name) != instant_of_name(originals[copy.body]) for copy in copies) == bool(ties)
    result = truth(faults)
    assert result.truth == truth(Faults(ties=ties)).truth
    assert result.total.duplicates == sum(len(records(copy)) for copy in copies)


def test_broken_rows_break_in_every_way_and_only_those_are_refused() -> None:
    faults = Faults(broken_rows=0.2, deletes=0.05, ties=0.02)
    objects = run(faults)
    assert {reason for each in objects for reason in each.refused.values()} == {
        "too_few_fields",
        "too_many_fields",
        "blank_key",
        "not_utf8",
        "repeated_header",
        "open_quote",
        "unreadable_time",
        "unknown_op",
    }
    result = truth(faults)
    assert result.refused == {each.name: each.refused for each in objects}
    assert result.total.quarantined == sum(len(each.refused) for each in objects) > 24 * 60 * 0.1
    assert result.total.received == truth(replace(faults, broken_rows=0)).total.received


def test_each_broken_row_is_broken_as_told() -> None:
    for each in run(Faults(broken_rows=0.2, deletes=0.05, ties=0.02)):
        header, *lines = each.body.splitlines()
        columns = header.decode().split(",")
        for ordinal, reason in each.refused.items():
            line = lines[ordinal - 1]
            if reason == "not_utf8":
                with pytest.raises(UnicodeDecodeError):
                    line.decode()
                continue
            if reason == "open_quote":
                with pytest.raises(csv.Error, match="unexpected end"):
                    next(csv.reader([line.decode()], strict=True))
                if ordinal < len(lines):
                    assert ordinal + 1 not in each.refused
                    assert len(next(csv.reader([lines[ordinal].decode()], strict=True))) == len(columns)
                continue
            row = next(csv.reader([line.decode()], strict=True))
            assert {"too_few_fields": -1, "too_many_fields": 1}.get(reason, 0) == len(row) - len(columns)
            stated = dict(zip(columns, row, strict=False))
            if reason == "unreadable_time":
                assert instant(stated["updated_at"]) is None
            if reason == "unknown_op":
                assert stated["op"] not in ("I", "U", "D")
            assert (reason == "blank_key") == (row[0].strip() == "")
            assert (reason == "repeated_header") == ([text.lower() for text in row] == columns)


def test_broken_files_break_in_every_way() -> None:
    faults = Faults(broken_files=0.5)
    sound = {each.name: each for each in run(Faults())}
    broken = [each for each in run(faults) if each.body != sound.get(each.name, each).body or each.unreadable]
    assert len(broken) == 12
    cut = [each for each in broken if each.unreadable]
    nothing = [each for each in broken if not each.body]
    header_only = [each for each in broken if each.body.count(b"\n") == 1 and not each.unreadable]
    keyless = [each for each in broken if each.refused]
    assert [len(kind) for kind in (cut, nothing, header_only, keyless)] == [3, 3, 3, 3]
    for each in cut:
        assert each.name.endswith(".csv.gz")
        with pytest.raises((EOFError, zlib.error)):
            gzip.decompress(each.body)
    for each in keyless:
        assert "customer_id" not in records(each)[0]
        assert len(records(each)) == len(each.refused) == 60
    result = truth(faults)
    assert result.total.quarantined == 3 * 60
    assert result.total.received == (12 + 3) * 60


def test_duplicate_rows_stand_twice_in_their_file() -> None:
    result = truth(Faults(duplicate_rows=0.1))
    assert 100 < result.total.duplicates == result.total.received - 24 * 60 < 200
    assert result.truth.ties == []


def test_deletes_end_versions_and_reinserts_come_after_a_gap() -> None:
    gone = truth(Faults(deletes=0.05)).truth
    deleted = [row for row in gone.history if row["ended_by"] == "delete"]
    assert len(deleted) == SMALL.customers - len(gone.current) > 20
    back = truth(Faults(deletes=0.05, reinserts=1.0)).truth
    again = [row for row in back.history if row["change_type"] == "insert"]
    assert len(again) > SMALL.customers + 20
    assert {row["op"] for each in run(Faults(deletes=0.05)) for row in records(each)} == {"I", "U", "D"}


def test_some_come_back_as_they_were() -> None:
    result = truth(Faults(deletes=0.05, reinserts=1.0)).truth
    gaps = [
        all(one[name] == other[name] for name in HEADER)
        for one, other in pairwise(result.history)
        if one["customer_id"] == other["customer_id"] and one["ended_by"] == "delete"
    ]
    assert True in gaps
    assert False in gaps


def test_ties_are_of_both_rules_in_files_with_times_of_their_own() -> None:
    faults = Faults(ties=0.05, deletes=0.05)
    timed = ["updated_at" in records(each)[0] for each in run(faults)]
    assert Counter(timed) == {True: 12, False: 12}
    assert {tie["rule"] for tie in truth(faults).truth.ties} == {"content", "delete"}


def test_times_are_written_in_every_way_and_lie_between_two_files() -> None:
    texts = {row["updated_at"] for each in run(Faults(ties=0.05)) for row in records(each) if "updated_at" in row}
    assert {re.sub(r"[0-9]+", "0", text) for text in texts} == {
        "0-0-0T0:0:0.0Z",
        "0-0-0 0:0:0.0",
        "0-0-0T0:0:0.0+0:0",
        "0-0-0 0:0:0.0-0:0",
    }
    for each in run(Faults(ties=0.05)):
        until = instant_of_name(each.name)
        assert until is not None
        for row in records(each):
            written = instant(row["updated_at"]) if "updated_at" in row else until - timedelta(seconds=1)
            assert written is not None
            assert until - timedelta(seconds=SMALL.interval) < written < until


def test_nulls_come_and_go() -> None:
    result = truth(Faults(nulls=0.1)).truth
    pairs = [pair for pair in pairwise(result.history) if pair[0]["customer_id"] == pair[1]["customer_id"]]
    for column in HEADER[1:]:
        assert any(one[column] is None and other[column] is not None for one, other in pairs), column
        assert any(one[column] is not None and other[column] is None for one, other in pairs), column


def test_the_mix_has_some_of_everything() -> None:
    assert all(getattr(MIX, each.name) > 0 for each in fields(Faults))


def test_a_share_of_files_hits_at_least_one() -> None:
    objects = run(Faults(broken_files=0.0001, duplicate_files=0.0001))
    assert len(objects) == 25


SHARES = st.sampled_from([0.0, 0.05, 0.5, 1.0])


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries({each.name: SHARES for each in fields(Faults)}),
    st.integers(0, 3),
    st.sampled_from([1, 2, 60]),
    st.booleans(),
)
def test_every_row_received_is_accepted_refused_or_a_duplicate(
    shares: dict[str, float], seed: int, interval: int, backwards: bool
) -> None:
    shares["reinserts"] = shares["reinserts"] if shares["deletes"] else 0.0
    spec = CustomerSpec(customers=15, days=6 * interval / 86_400, interval=interval, rows_per_file=10, seed=seed)
    objects = list(generate(replace(spec, faults=Faults(**shares))))
    assert [each.arrival for each in objects] == list(range(len(objects)))
    result = truth_of_generated(objects)
    total = result.total
    assert total.received == total.accepted + total.quarantined + total.duplicates
    assert total.accepted == len(result.truth.log)
    assert total.quarantined == sum(len(each.refused) for each in {each.name: each for each in objects}.values())
    for account in result.accounts.values():
        assert account.received == account.accepted + account.quarantined + account.duplicates
        assert min(account.accepted, account.quarantined, account.duplicates) >= 0
    other = truth_of_generated(objects[::-1] if backwards else objects[1:] + objects[:1])
    assert (other.truth, other.total, other.refused) == (result.truth, total, result.refused)


# --- spec and command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"customers": 0}, "customers is 0"),
        ({"interval": 0}, "interval is 0"),
        ({"rows_per_file": -1}, "rows_per_file is -1"),
        ({"days": 0.01}, "0.01 days hold no file"),
        ({"days": 1e9}, "after the year 9999"),
        ({"start": datetime(1, 1, 1)}, "from 1900 on"),
    ],
)
def test_a_run_that_cannot_be_is_an_error_that_says_why(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FEED"),
        (
            ["custmers"],
            "invalid choice: 'custmers' (choose from 'customers', 'customers_debezium', 'customers_dms', 'pos', 'shop', 'clickstream', 'clickstream_live')",
        ),
        (["customers"], "required: --out"),
        (["customers", "--out", "x", "--late", "2"], "late is 2: a share lies between 0 and 1"),
        (["customers", "--out", "x", "--late", "some"], "--late: invalid float value: 'some'"),
        (["customers", "--out", "x", "--reinserts", "0.5"], "reinserts without deletes"),
        (["customers", "--out", "x", "--start", "noon"], "'noon' is no instant"),
        (["customers", "--out", "x", "--rate", "0"], "has to be more than 0"),
        (["customers", "--out", "x", "--days", "nan"], "nan days"),
        (["customers", "--out", "x", "--days", "inf"], "inf days"),
        (["customers", "--out", "s3://"], "names no bucket"),
    ],
)
def test_wrong_usage_exits_64_and_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(arguments)
    assert exited.value.code == 64
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert printed.out == ""


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(["customers", "--help"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    for each in fields(Faults):
        assert f"--{each.name.replace('_', '-')} SHARE" in printed


ARGUMENTS = ["customers", "--customers", "120", "--rows-per-file", "60", "--seed", "7"]


def test_the_command_writes_a_run_into_a_folder_with_its_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*ARGUMENTS, "--out", str(tmp_path), "--faults", "--renamed-files", "0"]) == 0
    expected = {each.name: each for each in run(replace(MIX, renamed_files=0))}
    files = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == {n: e.body for n, e in expected.items()}
    name = "customers/customer_20260101010000.csv"
    assert files[name].stat().st_mtime == datetime.fromisoformat("2026-01-01T01:00:00+00:00").timestamp()
    printed = capsys.readouterr()
    assert printed.out.startswith(f"sent {len(run(replace(MIX, renamed_files=0)))} files, ")
    assert printed.err == ""  # progress is for terminals


def test_a_folder_that_cannot_be_written_exits_1_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command.main([*ARGUMENTS, "--out", str(tmp_path / "file")]) == 1
    assert f"cannot write to {tmp_path / 'file'}" in capsys.readouterr().err


def test_the_rate_is_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    assert command.main([*ARGUMENTS, "--days", "0.25", "--out", str(tmp_path), "--rate", "12"]) == 0
    assert time.monotonic() - began >= 5 / 12


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server of our own, as boto3's environment names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment = {**os.environ, "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    server = subprocess.Popen(
        [sys.executable, "-m", "ministack"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the S3 server ended by itself"
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def test_the_command_writes_a_run_to_s3_with_its_times(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = import_module("boto3").client("s3")
    out = ["--days", "0.25", "--out", "s3://landing/in/"]
    assert command.main([*ARGUMENTS, *out]) == 1
    assert "cannot write to s3://landing/in/" in capsys.readouterr().err
    client.create_bucket(Bucket="landing")
    assert command.main([*ARGUMENTS, *out]) == 0
    listed = [each["Key"] for each in client.list_objects_v2(Bucket="landing")["Contents"]]
    expected = list(generate(replace(SMALL, days=0.25)))
    assert listed == [f"in/{each.name}" for each in expected]
    stored = client.get_object(Bucket="landing", Key=listed[1])
    assert stored["Body"].read() == expected[1].body
    assert stored["Metadata"] == {"mtime": "2026-01-01T01:00:00Z"}
