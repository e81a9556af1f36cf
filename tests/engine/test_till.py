"""Generated tills with every fault through the real SQL, against the oracle: lines, days, refusals, counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from c360_assets.landing import Bucket
from generator import till, till_truth
from generator.objects import GeneratedObject
from tests.parts import Platform, seeds, settings_at

MODELS = ("--exclude-resource-type", "test", "--select", "+daily_sales_summary")
HIDDEN = ("valid", "etag")


def objects_of(seed: int, **more: Any) -> list[GeneratedObject]:
    spec = till.TillSpec(
        days=4, interval=6 * 3600, stores=4, receipts_per_object=40, seed=seed, zipped=0.3, foreign=0.5,
        faults=till.TILL_MIX, **more,
    )  # fmt: skip
    return list(till.generate(spec))


class Tills:
    """Sends objects in their order; S3's own times are noted, because they decide which copy of a line counts."""

    def __init__(self, path: Path, bucket: Bucket) -> None:
        own = Bucket(bucket.client, bucket.name, path.name)
        self.platform = Platform(settings_at(path), own).begin()
        self.sent: list[GeneratedObject] = []

    def send(self, *objects: GeneratedObject) -> None:
        for each in objects:
            self.platform.put(each.name.removeprefix("pos/"), each.body, feed="pos")
            self.sent.append(each)

    def modified(self) -> dict[str, Any]:
        """{key below the prefix: when its version was last modified, as the ledger noted it}"""
        prefix = f"{self.platform.bucket.prefix}/"
        return {
            key.removeprefix(prefix): at
            for key, at in self.platform.rows(
                "select key, max_by(last_modified, batch) from staging.object_ledger group by 1"
            )
        }


def assert_equals_truth(tills: Tills) -> None:
    truth = till_truth.till_truth(tills.sent, tills.modified())
    platform, prefix = tills.platform, f"{tills.platform.bucket.prefix}/"
    columns = list(till_truth.COLUMNS)
    shown = ", ".join(columns)
    lines = platform.rows(f"select {shown} from core.pos_line order by store_id, transaction_id, line")
    assert lines == sorted(
        (tuple(row[c] for c in columns) for row in truth.lines),
        key=lambda r: tuple(r[columns.index(k)] for k in ("store_id", "transaction_id", "line")),
    )
    days = list(truth.sales[0])
    found = platform.rows(f"select {', '.join(days)} from gold.daily_sales_summary")
    assert sorted(found) == sorted(tuple(row[d] for d in days) for row in truth.sales)
    replaced = platform.rows("select store_id, transaction_id, line, _key, winner_key from core.pos_line_replaced")
    assert sorted((s, t, n, k.removeprefix(prefix), w.removeprefix(prefix)) for s, t, n, k, w in replaced) == sorted(
        (r["store_id"], r["transaction_id"], r["line"], r["_key"], r["winner_key"]) for r in truth.replaced
    )
    for unit in ("row", "line"):
        (counts,) = platform.rows(
            f"""
            select sum(received), sum(accepted), sum(quarantined), sum(duplicates)
            from clean.accounting as a
            where unit = '{unit}' and exists (
                select 1 from staging.object_ledger as l
                where l.key = a._key and l.etag = a._etag and l.status <> 'superseded')
            """
        )
        total = truth.total(unit)
        assert counts == (total.received, total.accepted, total.quarantined, total.duplicates), unit


@seeds(3)
def test_any_cut_into_batches_gives_what_the_oracle_says(seed: int, tmp_path: Path, bucket: Bucket) -> None:
    tills = Tills(tmp_path / f"till-{seed}", bucket)
    objects = objects_of(seed)
    step = (1, 4, len(objects))[seed % 3]
    for start in range(0, len(objects), step):
        tills.send(*objects[start : start + step])
        tills.platform.load("pos")
        tills.platform.build(*MODELS)
    tills.platform.build()
    assert_equals_truth(tills)
    tills.platform.build("--full-refresh")
    assert_equals_truth(tills)
