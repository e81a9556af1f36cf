"""A run in this process: what is let in while it is created; and what becomes of one whose process is gone."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from c360_assets import local, processes
from c360_assets.processes import process_tags, run_here


@dg.asset
def goods() -> None: ...


@dg.asset_check(asset=goods)
def are_sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def job() -> dg.JobDefinition:
    defs = dg.Definitions(
        assets=[goods], asset_checks=[are_sound], jobs=[dg.define_asset_job("all", executor_def=dg.in_process_executor)]
    )
    return defs.resolve_job_def("all")


def test_something_is_let_in_before_anything_of_the_run_has_begun(
    job: dg.JobDefinition, instance: dg.DagsterInstance
) -> None:
    seen: list[dg.DagsterRunStatus] = []
    result = run_here(job, instance, while_created=lambda: seen.extend(run.status for run in instance.get_runs()))
    assert result.success
    assert seen == [dg.DagsterRunStatus.NOT_STARTED] * 2


def test_what_it_raises_is_raised_when_the_run_is_over(job: dg.JobDefinition, instance: dg.DagsterInstance) -> None:
    calls: list[int] = []

    def breaks() -> None:
        calls.append(1)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run_here(job, instance, while_created=breaks)
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS and len(calls) == 1


def test_a_run_that_was_long_in_the_making_lets_nothing_in_any_more(
    job: dg.JobDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LET_IN", 0.0)
    calls: list[int] = []
    assert run_here(job, instance, while_created=lambda: calls.append(1)).success
    assert calls == []


def test_a_run_that_its_dead_process_only_created_is_ended_and_one_that_waits_is_not(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    dead = instance.create_run_for_job(job, tags=process_tags() | {processes.BORN_TAG: "another birth"})
    alive = instance.create_run_for_job(job, tags=process_tags())
    waits, spool = instance.create_run_for_job(job), tmp_path / "spool"
    assert [*local.reap(instance, spool), *local.reap(instance, spool, alone=True)] == [dead.run_id]
    left = {run.run_id for run in instance.get_runs() if not run.is_finished}
    assert left == {alive.run_id, waits.run_id}
