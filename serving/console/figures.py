"""What a worker has counted, as plain numbers: pages take the difference of two readings."""

import os
import time
from typing import Any, Final

from prometheus_client.metrics import MetricWrapperBase

from serving.dependencies import Service

_STARTED: Final = time.time()


def figures(service: Service) -> dict[str, Any]:
    """Return counters, and histograms as cumulative counts by upper bound in seconds."""
    metrics = service.metrics
    return {
        "worker": os.getpid(),
        "at": time.time(),
        "started": _STARTED,
        "requests": _by_label(metrics.requests),
        "refused": _by_label(metrics.refused),
        "events": {outcome: _value(counter) for outcome, counter in metrics.events.items()},
        "lists": {rung: _value(counter) for rung, counter in metrics.served.items()},
        "cold": _value(metrics.cold),
        "fallbacks": _by_label(metrics.fallbacks),
        "latency": _histogram(metrics.duration["total"]),
        "adaptation": _histogram(metrics.adaptation),
        "pending": service.store.pending,
        "swaps": service.fleet.swaps,
    }


def _samples(metric: MetricWrapperBase) -> list[Any]:
    return [sample for family in metric.collect() for sample in family.samples]


def _value(metric: MetricWrapperBase) -> float:
    return float(next((s.value for s in _samples(metric) if s.name.endswith("_total")), 0.0))


def _by_label(metric: MetricWrapperBase) -> dict[str, float]:
    return {
        ",".join(sample.labels.values()): float(sample.value)
        for sample in _samples(metric)
        if sample.name.endswith("_total")
    }


def _histogram(metric: MetricWrapperBase) -> list[tuple[float | None, float]]:
    """Return (upper bound, observations up to it); the last bound is open."""
    return [
        (None if sample.labels["le"] == "+Inf" else float(sample.labels["le"]), float(sample.value))
        for sample in _samples(metric)
        if sample.name.endswith("_bucket")
    ]
