"""The generator of receipts: equal specs give equal bytes, every fault happens alone and is what it says."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c360_assets.reading import Layout, Unreadable, read_object
from generator import __main__ as command
from generator.objects import GeneratedObject
from generator.till import TILL_MIX, TillFaults, TillSpec, generate
from generator.till_truth import TillTruth, till_truth
from generator.values import instant

SMALL = TillSpec(stores=4, days=4, interval=6 * 3600, receipts_per_object=40, seed=7)
CLEAN = TillFaults()

Stated = dict[str, Any]


@cache
def run(faults: TillFaults = CLEAN, spec: TillSpec = SMALL) -> list[GeneratedObject]:
    return list(generate(replace(spec, faults=faults)))


@cache
def truth(faults: TillFaults = CLEAN, spec: TillSpec = SMALL) -> TillTruth:
    return till_truth(run(faults, spec))


def text(sent: GeneratedObject) -> str:
    return (gzip.decompress(sent.body) if sent.body[:2] == b"\x1f\x8b" else sent.body).decode()


def receipts(objects: Iterable[GeneratedObject]) -> list[Stated]:
    """Every receipt of objects in which none is broken."""
    found = []
    for each in objects:
        body, at = text(each), 0
        while at < len(body):
            stated, at = json.JSONDecoder().raw_decode(body, at)
            found.append(stated)
    return found


def struck(faults: TillFaults) -> list[Stated]:
    """The receipts that differ from those of the clean run, of faults that add none and leave the others as they are."""
    return [stated for stated, clean in zip(receipts(run(faults)), receipts(run()), strict=True) if stated != clean]


def codes(result: TillTruth) -> Counter[str]:
    """How often each reason is given."""
    return Counter(code for of in result.refused.values() for reasons in of.values() for code in reasons)


def kinds(result: TillTruth) -> Counter[str]:
    return Counter(line["kind"] for line in result.lines)


def name_instant(sent: GeneratedObject) -> datetime:
    return datetime.strptime(sent.name[len("pos/2026/01/01/00/stream-1-") :][:19], "%Y-%m-%d-%H-%M-%S")


def untouched(faults: TillFaults) -> bool:
    """Do the tables say what they say without the faults?"""
    return (truth(faults).lines, truth(faults).sales) == (truth().lines, truth().sales)


# --- clean ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    spec = replace(SMALL, faults=TILL_MIX, zipped=0.3, foreign=0.5)
    assert list(generate(spec)) == list(generate(spec))
    assert next(iter(generate(replace(spec, seed=8)))).body != next(iter(generate(spec))).body


def test_equal_arguments_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    arguments = ["pos", "--stores", "3", "--receipts-per-object", "30", "--faults", "--zipped", "0.2"]
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "generator", *arguments, "--out", tmp_path / hash_seed],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
        )
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / seed).rglob("stream*")} for seed in "12")
    assert one == two
    assert len(one) > 24


def test_a_file_is_named_as_firehose_names_it() -> None:
    shape = r"pos/(\d{4})/(\d\d)/(\d\d)/(\d\d)/stream-1-\1-\2-\3-\4-\d\d-\d\d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert all(re.fullmatch(shape, each.name) for each in run())
    assert run()[1].name.startswith("pos/2026/01/01/06/stream-1-2026-01-01-06-00-00-")
    assert len({each.name for each in run()}) == len(run()) == SMALL.files == 16
    assert [each.arrival for each in run()] == list(range(16))


def test_receipts_stand_one_after_another_without_line_breaks() -> None:
    assert all(each.body.startswith(b'{"store_id"') and b"\n" not in each.body for each in run())
    assert all(b"}{" in each.body for each in run())
    assert len(receipts(run())) == 16 * 40


def test_a_receipt_has_the_fields_of_the_feed_and_a_time_within_its_file() -> None:
    for each in run():
        for stated in receipts([each]):
            assert stated.keys() - {"customer_id"} == {
                "store_id",
                "city",
                "transaction_id",
                "timestamp",
                "items",
                "total_amount",
                "payment_method",
                "refund",
                "cancel_item",
            }
            moment = instant(stated["timestamp"])
            assert moment is not None
            assert name_instant(each) <= moment < name_instant(each) + timedelta(seconds=SMALL.interval)
            assert each.modified == name_instant(each) + timedelta(seconds=SMALL.interval)
            assert re.fullmatch(r"TXN_\d{6}", stated["transaction_id"])
            assert all(re.fullmatch(r"PROD_\d{5}", item["product_id"]) for item in stated["items"])


def test_a_clean_run_is_accepted_whole() -> None:
    assert not any(each.refused or each.unreadable for each in run())
    result = truth()
    for unit, count in (("row", 640), ("line", sum(len(each["items"]) for each in receipts(run())))):
        assert result.total(unit).received == result.total(unit).accepted == count
    assert result.replaced == []
    assert kinds(result).keys() == {"sale"}


def test_transactions_recur_from_store_to_store_but_not_within_one() -> None:
    keys = [(each["store_id"], each["transaction_id"]) for each in receipts(run())]
    assert len(set(keys)) == len(keys)
    assert len({transaction for _, transaction in keys}) < len(keys) / 2


def test_about_half_of_the_receipts_know_their_customer() -> None:
    known = [each["customer_id"] for each in receipts(run()) if "customer_id" in each]
    assert 0.4 < len(known) / 640 < 0.6
    assert all(re.fullmatch(r"CUST_\d{5}", each) for each in known)


def test_some_receipts_have_two_equal_lines_and_some_goods_are_weighed() -> None:
    assert any(each["items"].count(item) == 2 for each in receipts(run()) for item in each["items"])
    assert any(line["amount"] != round(line["amount"], 2) for line in truth().lines)


def test_a_share_of_files_is_zipped_and_reads_alike() -> None:
    spec = replace(SMALL, zipped=0.25)
    zipped = [each for each in run(CLEAN, spec) if each.body[:2] == b"\x1f\x8b"]
    assert len(zipped) == 4
    assert {each.body[4:8] for each in zipped} == {bytes(4)}  # the time of zipping would make every run another
    assert [text(each) for each in run(CLEAN, spec)] == [text(each) for each in run()]
    assert truth(CLEAN, spec).sales == truth().sales


def test_a_foreign_store_says_its_currency_on_every_receipt() -> None:
    spec = replace(SMALL, foreign=0.5)
    said: dict[str, set[str | None]] = {}
    for each in receipts(run(CLEAN, spec)):
        said.setdefault(each["store_id"], set()).add(each.get("currency"))
    assert sorted(map(str, said.values())) == sorted(["{None}", "{None}", "{'EUR'}", "{'GBP'}"])
    assert {row["currency"] for row in truth(CLEAN, spec).sales} == {"USD", "EUR", "GBP"}


# --- faults of files --------------------------------------------------------------------------------------------------


def test_late_files_arrive_after_files_of_a_later_instant() -> None:
    instants = [name_instant(each) for each in run(TillFaults(late=0.2))]
    assert instants != sorted(instants) == [name_instant(each) for each in run()]
    assert untouched(TillFaults(late=0.2))


def test_duplicate_files_have_the_same_name_and_bytes() -> None:
    faults = TillFaults(duplicate_files=0.25)
    assert len(run(faults)) == 16 + 4
    assert len({each.name for each in run(faults)}) == len({(e.name, e.body) for e in run(faults)}) == 16
    assert untouched(faults)
    assert truth(faults).total("row") == truth().total("row")


def test_renamed_files_have_the_same_bytes_and_are_duplicates() -> None:
    faults = TillFaults(renamed_files=0.25)
    assert len({each.name for each in run(faults)}) == len(run(faults)) == 16 + 4
    assert len({each.body for each in run(faults)}) == 16
    assert untouched(faults)
    assert truth(faults).total("row").duplicates == 4 * 40


@pytest.mark.parametrize("zipped", [0.0, 1.0])
def test_cut_files_come_in_half_and_later_whole_under_the_same_name(zipped: float) -> None:
    faults, spec = TillFaults(cut_files=0.25), replace(SMALL, zipped=zipped)
    objects = run(faults, spec)
    whole = {each.name: each for each in run(CLEAN, spec)}
    cut = [each for each in objects if each.body != whole[each.name].body]
    assert len(cut) == 4
    assert len(objects) == 16 + 4
    for each in cut:
        assert whole[each.name].body.startswith(each.body[: 20 if zipped else None])
        assert 0.2 < len(each.body) / len(whole[each.name].body) < 0.8
        (again,) = [other for other in objects if other.name == each.name and other is not each]
        assert (again.body, again.refused) == (whole[each.name].body, {})
        assert again.arrival > each.arrival
        assert (each.refused, each.unreadable) == (({}, True) if zipped else ({21: "broken_json"}, False))
        if zipped:
            with pytest.raises((EOFError, zlib.error)):
                text(each)
    assert (truth(faults, spec).lines, truth(faults, spec).sales) == (truth().lines, truth().sales)


def test_a_file_that_is_sent_again_shares_no_receipt_with_another() -> None:
    faults = TillFaults(duplicate_files=0.25, redelivered=0.5, corrected=0.5)
    times = Counter(each.name for each in run(faults))
    holders: dict[tuple[str, str], set[str]] = {}
    for each in run(faults):
        for stated in receipts([each]):
            holders.setdefault((stated["store_id"], stated["transaction_id"]), set()).add(each.name)
    assert any(len(names) > 1 for names in holders.values())
    assert all(len(names) == 1 or all(times[name] == 1 for name in names) for names in holders.values())


# --- faults of receipts -----------------------------------------------------------------------------------------------


def test_redelivered_receipts_come_again_in_a_later_file_as_they_were() -> None:
    faults = TillFaults(redelivered=0.1)
    times: dict[str, list[str]] = {}
    for each in run(faults):
        for stated in receipts([each]):
            times.setdefault(json.dumps(stated), []).append(each.name)
    again = [names for names in times.values() if len(names) > 1]
    assert 30 < sum(len(names) - 1 for names in again) == truth(faults).total("row").duplicates < 90
    assert all(len(set(names)) == len(names) for names in again)
    assert truth(faults).replaced == []
    assert truth(faults).total("row").accepted == 640


def test_corrected_receipts_have_the_same_lines_but_for_one_quantity_or_price() -> None:
    faults = TillFaults(corrected=0.1)
    versions: dict[tuple[str, str], list[Stated]] = {}
    for stated in receipts(run(faults)):
        versions.setdefault((stated["store_id"], stated["transaction_id"]), []).append(stated)
    changed = set()
    for one, other in [of[:2] for of in versions.values() if len(of) > 1]:
        assert one["total_amount"] != other["total_amount"]
        assert {name for name in one if one[name] != other[name]} <= {"items", "total_amount"}
        pairs = [(a, b) for a, b in zip(one["items"], other["items"], strict=True) if a != b]
        assert len(pairs) == 1
        changed |= {name for name in pairs[0][0] if pairs[0][0][name] != pairs[0][1][name]}
    assert changed == {"quantity", "price"}
    result = truth(faults)
    assert 30 < len(result.replaced) == result.total("line").accepted - len(result.lines) < 90
    assert len(result.lines) == len(truth().lines)


def test_broken_receipts_are_cut_and_followed_by_a_sound_one() -> None:
    for each in run(TillFaults(broken=1.0), replace(SMALL, receipts_per_object=39)):
        assert each.refused == dict.fromkeys(range(1, 39, 2), "broken_json")
    result = truth(TillFaults(broken=0.1))
    assert codes(result).keys() == {"broken_json"}
    assert 30 < codes(result).total() < 90
    assert result.total("row").received == 640


BAD_LINES = {
    "missing_product_id",
    "missing_price",
    "price_not_positive",
    "bad_price",
    "missing_quantity",
    "quantity_not_positive",
    "bad_quantity",
}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("bad_lines", BAD_LINES),
        ("unkeyed", {"missing_key:store_id", "missing_key:transaction_id"}),
        ("untimed", {"missing_event_time", "bad_event_time"}),
        ("empty", {"no_items"}),
        ("bad_items", {"bad_items"}),
        ("unknown_cancels", {"unknown_cancelled_item"}),
        (
            "broken_refunds",
            {"bad_refund", "missing_refund_amount", "bad_refund_amount", "refund_not_positive"},
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_for_what_it_is(fault: str, expected: set[str]) -> None:
    result = truth(TillFaults(**{fault: 0.1}))
    assert codes(result).keys() == expected
    assert result.total("row").duplicates == 0
    assert result.total("row").received == 640
    assert kinds(result).keys() == {"sale"}
    hit = struck(TillFaults(**{fault: 0.1}))
    refused = sum(len({record for record, _ in of}) for of in result.refused.values())
    assert refused == len(hit)
    assert 30 < len(hit) < (300 if fault == "bad_lines" else 90)


def test_receipts_without_items_lack_them_in_every_way() -> None:
    ways = {str(each.get("items", "absent")) for each in struck(TillFaults(empty=0.2))}
    assert ways == {"absent", "None", "[]"}


def test_cancelled_lines_are_marked_and_counted_in_no_total() -> None:
    faults = TillFaults(cancelled=0.1)
    marked = sum(bool(item.get("canceled")) for each in receipts(run(faults)) for item in each["items"])
    assert 100 < kinds(truth(faults))["cancelled"] == marked < 300
    alone = [each for each in receipts(run(faults)) if all(item.get("canceled") for item in each["items"])]
    assert {each["total_amount"] for each in alone} == {0}
    assert codes(truth(faults)) == {}


def test_what_is_cancelled_afterwards_is_in_the_receipt() -> None:
    faults = TillFaults(cancel_items=0.1)
    cancelling = [each for each in receipts(run(faults)) if each["cancel_item"]]
    assert len(cancelling) == kinds(truth(faults))["cancelled"] > 30
    assert {each["cancel_item"].get("transaction_id") in (None, each["transaction_id"]) for each in cancelling} == {
        True
    }
    assert codes(truth(faults)) == {}


def refunding(faults: TillFaults, spec: TillSpec = SMALL) -> list[Stated]:
    return [each for each in receipts(run(faults, spec)) if each["refund"]]


def test_refunds_fall_on_the_day_of_their_sale() -> None:
    faults = TillFaults(refunds=0.1)
    assert 30 < len(refunding(faults)) == kinds(truth(faults))["refund"] < 90
    for each in refunding(faults):
        assert each["refund"]["timestamp"][:10] == each["timestamp"][:10]
        assert each["refund"]["timestamp"] >= each["timestamp"]
        assert each["refund"]["transaction_id"] == each["transaction_id"]
        assert 0 < each["refund"]["refund_amount"] == each["total_amount"]


def test_later_refunds_give_back_what_the_store_sold_on_a_day_before() -> None:
    faults, spec = (
        TillFaults(later_refunds=0.1),
        replace(SMALL, start=datetime(2026, 1, 1, 21)),
    )  # midnight is in a file
    sold = {(each["store_id"], each["transaction_id"]): each for each in receipts(run(faults, spec))}
    backs = refunding(faults, spec)
    assert 20 < len(backs) == kinds(truth(faults, spec))["refund"] < 90
    for each in backs:
        sale = sold[each["store_id"], each["refund"]["transaction_id"]]
        assert sale["timestamp"][:10] < each["timestamp"][:10]
        assert 0 < each["refund"]["refund_amount"] <= sale["total_amount"]
    assert {bool(each.get("items")) for each in backs} == {True, False}
    own_time = [each["refund"].get("timestamp") for each in backs]
    assert None in own_time
    assert any(when and when[:10] > each["timestamp"][:10] for when, each in zip(own_time, backs, strict=True))
    assert codes(truth(faults, spec)) == {}


def test_unknown_refunds_name_no_sale_and_excess_refunds_give_back_too_much() -> None:
    known = {each["transaction_id"] for each in receipts(run())}
    unknown = refunding(TillFaults(unknown_refunds=0.1))
    assert len(unknown) > 30
    assert not known & {each["refund"]["transaction_id"] for each in unknown}
    excess = refunding(TillFaults(excess_refunds=0.1))
    assert len(excess) > 30
    assert all(each["refund"]["refund_amount"] > each["total_amount"] for each in excess)
    assert all(each["refund"]["transaction_id"] == each["transaction_id"] for each in excess)


def test_the_mix_has_some_of_everything() -> None:
    assert all(getattr(TILL_MIX, each.name) > 0 for each in fields(TillFaults))


# --- all together -----------------------------------------------------------------------------------------------------


def told_is_found(objects: list[GeneratedObject], result: TillTruth) -> None:
    """The generator names the receipts of which nothing is taken, and for each a reason that holds."""
    etags = dict.fromkeys((key, etag) for key, etag, _ in result.accounts)
    sendings = {(each.name, each.body): each for each in objects}
    assert len(sendings) == len(etags)
    for each, version in zip(sendings.values(), etags, strict=True):
        account = result.accounts[*version, "row"]
        assert account.quarantined == len(each.refused)
        for record, reason in each.refused.items():
            found = [codes for (at, _), codes in result.refused[version].items() if at == record]
            assert any(reason in codes for codes in found)


def test_a_mixed_run_says_of_every_receipt_what_becomes_of_it() -> None:
    spec = replace(SMALL, zipped=0.3, foreign=0.5)
    told_is_found(run(TILL_MIX, spec), truth(TILL_MIX, spec))


@pytest.mark.parametrize("fault", ["cancel_items", "refunds", "broken_refunds", "later_refunds", "corrected"])
def test_a_receipt_with_bad_lines_only_is_refused_but_for_its_refund(fault: str) -> None:
    faults = TillFaults(**{"bad_lines": 0.6, fault: 0.9})
    told_is_found(run(faults), truth(faults))


SHARES = st.sampled_from([0.0, 0.05, 0.5, 1.0])


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries({each.name: SHARES for each in fields(TillFaults)}),
    st.integers(0, 3),
    st.sampled_from([1, 2, 9]),
    st.sampled_from([0.0, 0.5]),
)
def test_every_line_received_is_accepted_refused_or_a_duplicate(
    shares: dict[str, float], seed: int, receipts_per_object: int, zipped: float
) -> None:
    spec = TillSpec(3, 43_200, seed, stores=2, receipts_per_object=receipts_per_object, zipped=zipped)
    objects = list(generate(replace(spec, faults=TillFaults(**shares))))
    assert [each.arrival for each in objects] == list(range(len(objects)))
    result = till_truth(objects)
    told_is_found(objects, result)
    for account in result.accounts.values():
        assert account.received == account.accepted + account.quarantined + account.duplicates
        assert min(account.accepted, account.quarantined, account.duplicates) >= 0
    assert result.total("line").accepted == len(result.lines) + len(result.replaced)
    last = {each.name: each for each in objects}
    at_once = till_truth(sorted(last.values(), key=lambda each: each.arrival))
    assert (at_once.lines, at_once.sales, at_once.replaced) == (result.lines, result.sales, result.replaced)
    assert [at_once.total(unit) for unit in ("row", "line")] == [result.total(unit) for unit in ("row", "line")]


PAYLOAD = Layout(("payload",), frozenset(), payload=True)


def test_the_reader_numbers_and_refuses_records_as_told() -> None:
    faults = replace(TILL_MIX, broken=0.2, cut_files=0.5)
    for each in run(faults, replace(SMALL, zipped=0.2)):
        if each.unreadable:
            continue
        reading = read_object(io.BytesIO(each.body), "json", PAYLOAD)
        refused = {row.row: row.reasons for chunk in reading.chunks for row in chunk.refused}
        assert refused == {at: (why,) for at, why in each.refused.items() if why == "broken_json"}


def test_the_reader_cannot_read_what_is_told_to_be_unreadable() -> None:
    unreadable = [each for each in run(TillFaults(cut_files=0.5), replace(SMALL, zipped=1)) if each.unreadable]
    assert len(unreadable) == 8
    for each in unreadable:
        with pytest.raises(Unreadable, match="ends early"):
            list(read_object(io.BytesIO(each.body), "json", PAYLOAD).chunks)


# --- spec and command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stores": 0}, "stores is 0"),
        ({"receipts_per_object": 0}, "receipts_per_object is 0"),
        ({"interval": 0}, "interval is 0"),
        ({"days": 0.01}, "0.01 days hold no file"),
        ({"zipped": 2}, "zipped is 2: a share lies between 0 and 1"),
        ({"foreign": -1}, "foreign is -1: a share"),
    ],
)
def test_a_run_that_cannot_be_is_an_error_that_says_why(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_a_share_lies_between_0_and_1() -> None:
    with pytest.raises(ValueError, match=r"refunds is 1\.5: a share lies between 0 and 1"):
        TillFaults(refunds=1.5)


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(["pos", "--help"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    for each in fields(TillFaults):
        assert f"--{each.name.replace('_', '-')} SHARE" in printed


def test_the_command_writes_a_run_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pos", "--stores", "4", "--days", "4", "--interval", "21600", "--receipts-per-object", "40"]
    arguments += ["--seed", "7", "--foreign", "0.5", "--zipped", "0.25", "--faults", "--late", "0"]
    assert command.main([*arguments, "--out", str(tmp_path)]) == 0
    objects = run(replace(TILL_MIX, late=0), replace(SMALL, foreign=0.5, zipped=0.25))
    files = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    last = {each.name: each for each in objects}
    assert {name: path.read_bytes() for name, path in files.items()} == {name: e.body for name, e in last.items()}
    assert capsys.readouterr().out.startswith(f"sent {len(objects)} files, ")


def test_wrong_usage_exits_64_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(["pos", "--out", "x", "--zipped", "3"])
    assert exited.value.code == 64
    assert "zipped is 3" in capsys.readouterr().err
