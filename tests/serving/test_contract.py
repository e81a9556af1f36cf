"""What /openapi.json says is what the API does, for whatever is asked (schemathesis)."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis

from c360_assets.settings import Settings
from serving.api.app import create_app
from tests.serving.conftest import Gold
from tests.serving.test_api import filled, key, token

__all__ = ["filled", "key"]  # fixtures
PATHS = (
    "/customers", "/customers/{customer_id}", "/customers/{customer_id}/orders", "/customers/{customer_id}/history",
    "/customers/{customer_id}/timeline", "/products", "/orders", "/quality", "/metrics/realtime", "/health", "/metrics",
)  # fmt: skip


@pytest.mark.parametrize("gold", ["sqlite"], indirect=True)
def test_every_answer_is_one_that_the_contract_knows(filled: Gold, key: str) -> None:
    app = create_app(Settings(**(vars(filled.settings) | {"api_public_key": key, "api_rate": 1e6})))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=token())
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        seen.add(operation.path)
        _hold(operation)
    assert seen == set(PATHS)


def _hold(operation: Any) -> None:
    @hypothesis.settings(
        max_examples=40, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def holds(case: Any) -> None:
        case.call_and_validate(headers=token())

    holds()
