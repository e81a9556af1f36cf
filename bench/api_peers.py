"""What the API is measured beside: FastAPI with a constant answer, and the way the system before had it."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, HTTPException

bare = FastAPI()
before = FastAPI()


@bare.get("/customers/{customer_id}")
async def constant(customer_id: str) -> dict[str, str]:
    return {"customer_id": "C1", "city": "Ulm"}


@before.get("/customers/{customer_id}")
def by_a_connection_of_its_own(customer_id: str) -> Any:
    """PostgreSQL, a connection for each request."""
    import psycopg

    with psycopg.connect(os.environ["BENCH_POSTGRES"]) as connection:
        row = connection.execute("select doc from customers where customer_id = %s", [customer_id]).fetchone()
    if row is None:
        raise HTTPException(404)
    return row[0]
