"""OpenTelemetry spans of requests and their stages, where the extra is installed and RECSYS_TRACING is on.

Where the spans go is OpenTelemetry's own business: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and the rest.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from recsys.errors import UserError

NAME = "metaq"
_NO_SPAN: AbstractContextManager[Any] = contextlib.nullcontext()  # may be entered again and again


class Tracer:
    """Makes spans, or nothing at all."""

    def __init__(self, tracer: Any = None) -> None:
        self._tracer = tracer

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    def span(
        self, name: str, headers: Mapping[str, str] | None = None, **told: Any
    ) -> AbstractContextManager[Any]:
        """Make a span, a child of what the caller's headers name or of the span around it."""
        return _NO_SPAN if self._tracer is None else self._span(name, headers, told)

    @contextlib.contextmanager
    def _span(self, name: str, headers: Mapping[str, str] | None, told: Mapping[str, Any]) -> Iterator[Any]:
        from opentelemetry import propagate

        context = propagate.extract(headers) if headers else None
        with self._tracer.start_as_current_span(name, context=context, attributes=told) as span:
            yield span


def make_tracer(on: bool, provider: Any = None) -> Tracer:
    """Return a tracer; raises UserError if it is to be on and its packages are missing."""
    if not on:
        return Tracer()
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        raise UserError(
            "RECSYS_TRACING is on, but OpenTelemetry is not installed; pip install 'metaq[telemetry]', or unset it"
        ) from None
    if provider is None:
        provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise UserError(
                "RECSYS_TRACING is on, but its exporter is not installed; pip install 'metaq[telemetry]', or unset it"
            ) from None
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(trace.get_tracer(NAME, tracer_provider=provider))
