"""The rules that `make mutate` changes stand in the engine's SQL as they are named there."""

from __future__ import annotations

import pytest

from c360_assets.settings import PROJECT
from tests.mutate import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.rule for mutant in MUTANTS])
def test_a_rule_that_is_changed_stands_there(mutant: Mutant) -> None:
    text = (PROJECT / "dbt" / "macros" / mutant.where).read_text()
    assert mutant.old in text, f"{mutant.where} does not say any more: {mutant.old!r}"
    assert mutant.new != mutant.old
