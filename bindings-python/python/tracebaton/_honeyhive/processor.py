"""HoneyHive's span processor, for programs that give it to a provider of OpenTelemetry's SDK."""

from __future__ import annotations

from opentelemetry.sdk.trace.export import SpanExporter

from tracebaton import Tracer
from tracebaton.sdk import TracebatonSpanExporter, TracebatonSpanProcessor


class HoneyHiveSpanProcessor(TracebatonSpanProcessor):
    """A `tracebaton.sdk.TracebatonSpanProcessor` whose spans go where the tracer sends its own, or to `otlp_exporter`.

    `client` and `disable_batch` mean nothing here: the tracer has its own settings.
    """

    def __init__(
        self,
        client: object = None,
        disable_batch: bool = False,
        otlp_exporter: SpanExporter | None = None,
        tracer_instance: Tracer | None = None,
    ) -> None:
        exporter = otlp_exporter if otlp_exporter is not None else TracebatonSpanExporter(tracer_instance)
        super().__init__(tracer_instance, exporter=exporter)
