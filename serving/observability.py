"""What the endpoint counts and times, for Prometheus; never a user's or an item's id.

Each worker process keeps and shows its own numbers.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
STAGES = ("read", "rank", "log", "total")
OUTCOMES = ("accepted", "duplicate", "rejected")


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self, pending_writes: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        duration = Histogram(
            "recsys_recommendation_duration_seconds",
            "Time of a recommendation: reading the user's events, ranking, logging the impression, all of it",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.duration = {stage: duration.labels(stage) for stage in STAGES}
        self.recommendations = Counter(
            "recsys_recommendations_total",
            "Lists served, by what ranked them",
            ["served_by"],
            registry=self.registry,
        )
        events = Counter(
            "recsys_events_total", "Events taken in, by outcome", ["outcome"], registry=self.registry
        )
        self.events = {outcome: events.labels(outcome) for outcome in OUTCOMES}
        self.adaptations = Counter(
            "recsys_adaptations_total", "Lists ranked by weights adapted to the user", registry=self.registry
        )
        self.fallbacks = Counter(
            "recsys_fallbacks_total",
            "Lists from a lower rung, by what failed first",
            ["reason"],
            registry=self.registry,
        )
        self._bundle = Gauge("recsys_bundle_info", "The bundle in use", ["version"], registry=self.registry)
        Gauge("recsys_store_pending_writes", "Writes that wait", registry=self.registry).set_function(
            pending_writes
        )

    def show_bundle(self, version: str) -> None:
        """Name the bundle in use."""
        self._bundle.clear()
        self._bundle.labels(version).set(1)

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
