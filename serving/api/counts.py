"""Counts: what Prometheus is told of requests, of what is served, and of how long it took to be.

Belongs here: every metric of the API, and its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Counts:
    """What Prometheus is told; a registry of its own, so that two applications may stand in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "c360_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "c360_request_seconds", "Seconds by path.", ["path"], registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )  # fmt: skip
        self.generation = Gauge("c360_served_generation", "Generation in the serving store.", registry=self.registry)
        self.served_at = Gauge("c360_served_at_seconds", "When it was written, since 1970.", registry=self.registry)

        self._stages = Gauge(
            "c360_stage_seconds", "Seconds from the object to the stage, in the last hour.",
            ["feed", "stage", "quantile"], registry=self.registry,
        )  # fmt: skip
        self._known: dict[tuple[str, int], tuple[Any, Any]] = {}

    def took(self, feed: str, stage: str, quantiles: Mapping[str, Any]) -> None:
        for name in ("p50", "p95", "p99"):
            self._stages.labels(feed, stage, f"0.{name[1:]}").set(float(quantiles[name]))

    def note(self, path: str, status: int, seconds: float) -> None:
        if (path, status) not in self._known:
            self._known[path, status] = self._requests.labels(path, str(status)), self._seconds.labels(path)
        count, took = self._known[path, status]
        count.inc()
        took.observe(seconds)
