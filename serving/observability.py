"""What the endpoint counts and times, for Prometheus; never a user's or an item's id.

Each worker process keeps and shows its own numbers.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STAGES = ("read", "rank", "log", "total")
OUTCOMES = ("accepted", "duplicate", "rejected")


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self, pending_writes: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        duration = Histogram(
            "recsys_recommendation_duration_seconds",
            "Time of a recommendation: reading the user's events, ranking, logging the impression, all of it",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = {stage: duration.labels(stage) for stage in STAGES}
        self.adaptation = Histogram(
            "recsys_adaptation_duration_seconds",
            "Time of ranking with weights adapted to the user",
            buckets=_SECONDS,
            registry=registry,
        )
        self.recommendations = Counter(
            "recsys_recommendations_total",
            "Lists served, by what ranked them",
            ["served_by"],
            registry=registry,
        )
        self.served = {
            rung: self.recommendations.labels(rung) for rung in ("adapted", "unadapted", "policy", "popular")
        }
        self.variants = Counter(
            "recsys_variant_recommendations_total",
            "Lists served, by variant of an experiment",
            ["variant"],
            registry=registry,
        )
        self.cold = Counter(
            "recsys_cold_user_recommendations_total",
            "Lists for users without any event; over recsys_recommendations_total it is the cold users' share",
            registry=registry,
        )
        events = Counter("recsys_events_total", "Events taken in, by outcome", ["outcome"], registry=registry)
        self.events = {outcome: events.labels(outcome) for outcome in OUTCOMES}
        self.adaptations = Counter(
            "recsys_adaptations_total", "Lists ranked by weights adapted to the user", registry=registry
        )
        self.fallbacks = Counter(
            "recsys_fallbacks_total",
            "Lists from a lower rung, by what failed first",
            ["reason"],
            registry=registry,
        )
        self.requests = Counter(
            "recsys_requests_total", "Requests answered, by status", ["status"], registry=registry
        )
        self.refused = Counter(
            "recsys_requests_refused_total",
            "Requests refused before any work: overload, rate, key",
            ["reason"],
            registry=registry,
        )
        self.in_flight = Gauge("recsys_requests_in_flight", "Requests being answered", registry=registry)
        self.overlap = Histogram(
            "recsys_shadow_overlap",
            "Share of a served list that the shadow model shows too",
            buckets=_SHARES,
            registry=registry,
        )
        self._bundle = Gauge(
            "recsys_bundle_info", "The bundles in use, by role", ["version", "role"], registry=registry
        )
        Gauge("recsys_store_pending_writes", "Writes that wait", registry=registry).set_function(
            pending_writes
        )
        self.swaps = Gauge(
            "recsys_model_swaps", "Times that the bundle in use was changed", registry=registry
        )
        self.catalogue = Gauge("recsys_catalogue_items", "Items that can be shown", registry=registry)
        self.lost = Gauge("recsys_impressions_lost", "Impressions that no store took", registry=registry)
        self.away = Gauge("recsys_database_away", "1 while the database is away", registry=registry)

    def show_bundles(self, champion: str, shadow: str | None, others: list[str]) -> None:
        """Name the bundles in use."""
        self._bundle.clear()
        self._bundle.labels(champion, "champion").set(1)
        for version in others:
            self._bundle.labels(version, "variant").set(1)
        if shadow is not None:
            self._bundle.labels(shadow, "shadow").set(1)

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
