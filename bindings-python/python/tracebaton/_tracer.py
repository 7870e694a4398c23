"""`Tracer`: what a program holds. Also known as `HoneyHiveTracer`."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context

from tracebaton import _native, _registry
from tracebaton._compatible import Compatible
from tracebaton._context import SCOPE_KEY, current, derived
from tracebaton._events import Events
from tracebaton._name_filters import prefixes_of
from tracebaton._native import Policy
from tracebaton._provider import OtelTracer, TracerProvider
from tracebaton._sessions import Sessions
from tracebaton._span import SpanBlock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanLimits

    from tracebaton._foreign import Exporter

# Keywords of HoneyHive's `init` that are taken so that programs written for it run, and that mean nothing here: there
# is no cache, no HTTP instrumentation of our own, routing attributes cannot be lost, and its ids make an experiment.
# Each with the types that it may have.
_WITHOUT_MEANING: dict[str, tuple[type, ...]] = {
    "cache_cleanup_interval": (int, float),
    "cache_enabled": (bool,),
    "cache_max_size": (int,),
    "cache_ttl": (int, float),
    "disable_http_tracing": (bool,),
    "is_evaluation": (bool,),
    "max_span_size": (int,),
    "preserve_core_attributes": (bool,),
}
# Keywords that mean something there which cannot be done here, as spans are delivered without Python: said once.
_NO_EFFECT: dict[str, tuple[type, ...]] = {
    "export_timeout": (int, float),
    "requests_session": (object,),
}
_NAME = "tracebaton"


class Tracer(_registry.Registered, Sessions, Events, Compatible):
    """Records spans of one service and sends them to one or more backends.

    `Tracer.init(...)` makes one, as `Tracer(...)` does. It opens no connection: the first span that ends does, in the
    background.
    """

    def __init__(
        self,
        api_key: str | None = None,
        project: str | None = None,
        source: str | None = None,
        *,
        session_id: str | None = None,
        session_name: str | None = None,
        server_url: str | None = None,
        exporter: str | Exporter | Sequence[str | Exporter] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        sampler: str | Any | None = None,
        sampler_argument: str | None = None,
        random_flag: bool | None = None,
        service_name: str | None = None,
        redact: bool | None = None,
        capture: bool | None = None,
        limits: Mapping[str, int] | SpanLimits | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_bytes: int | None = None,
        set_global: bool | None = None,
        disable_batch: bool | None = None,
        disable_tracing: bool | None = None,
        test_mode: bool | None = None,
        verbose: bool | None = None,
        max_attributes: int | None = None,
        max_events: int | None = None,
        max_links: int | None = None,
        otlp_enabled: bool | None = None,
        otlp_endpoint: str | None = None,
        otlp_headers: Mapping[str, str] | None = None,
        otlp_protocol: str | None = None,
        batch_size: int | None = None,
        flush_interval: float | None = None,
        max_export_batch_size: int | None = None,
        span_name_filters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        skip_backend_session_creation: bool | None = None,
        config: object = None,
        session_config: object = None,
        evaluation_config: object = None,
        run_id: str | None = None,
        dataset_id: str | None = None,
        datapoint_id: str | None = None,
        link_carrier: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        from tracebaton._propagation import as_policy, install_propagator

        # A sampler of OpenTelemetry's SDK.
        foreign_sampler = sampler if callable(getattr(sampler, "should_sample", None)) else None
        settings = {
            "api_key": api_key,
            "batch_size": batch_size,
            "disable_batch": disable_batch,
            "disable_tracing": disable_tracing,
            "exporter": exporter,
            "flush_interval": flush_interval,
            "max_attributes": max_attributes,
            "max_events": max_events,
            "max_links": max_links,
            "otlp_enabled": otlp_enabled,
            "otlp_endpoint": otlp_endpoint,
            "otlp_headers": otlp_headers,
            "otlp_protocol": otlp_protocol,
            "project": project,
            "random_flag": random_flag,
            "sampler": sampler if foreign_sampler is None else None,
            "sampler_argument": sampler_argument,
            "server_url": server_url,
            "service_name": service_name,
            "session_id": session_id,
            "session_name": session_name,
            "source": source,
            "test_mode": test_mode,
            "verbose": verbose,
        }
        given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        ids = {"run_id": run_id, "dataset_id": dataset_id, "datapoint_id": datapoint_id}
        experiment = {name: value for name, value in ids.items() if value is not None}
        for name, more in (
            ("session_config", session_config),
            ("evaluation_config", evaluation_config),
            ("config", config),
        ):
            if isinstance(more, (int, float, str, bytes, list, tuple)):
                raise TypeError(f"{name} must be a mapping or an object with settings, not {type(more).__name__}")
            given = {**_fields_of(more, settings), **given}
            experiment = {**_fields_of(more, ids), **experiment}
        for name, value in experiment.items():
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        if link_carrier is not None and not isinstance(link_carrier, Mapping):
            raise TypeError(f"link_carrier must be a mapping, not {type(link_carrier).__name__}")
        more = _fields_of(session_config, ("inputs", "skip_backend_session_creation"))
        inputs = more.get("inputs") if inputs is None else inputs
        if skip_backend_session_creation is None:
            skip_backend_session_creation = more.get("skip_backend_session_creation")
        for name, value in others.items():
            kinds = _WITHOUT_MEANING.get(name) or _NO_EFFECT.get(name)
            if kinds is None:
                raise TypeError(f"init() got an unexpected keyword argument {name!r}")
            if value is not None and not isinstance(value, kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"{name} must be a {wanted}, not {type(value).__name__}")
            if name in _NO_EFFECT and value:
                _native.report(f"{name}= has no effect")
        if max_export_batch_size is not None:
            given.setdefault("batch_size", max_export_batch_size)
        prefixes = None if span_name_filters is None else prefixes_of(span_name_filters)
        foreign = _foreign_exporters(given)
        if isinstance(given.get("otlp_headers"), Mapping):
            given["otlp_headers"] = list(given["otlp_headers"].items())
        for name, flag in (
            ("redact", redact),
            ("capture", capture),
            ("set_global", set_global),
            ("skip_backend_session_creation", skip_backend_session_creation),
        ):
            if flag is not None and not isinstance(flag, bool):
                raise TypeError(f"{name} must be a bool, not {type(flag).__name__}")
        if inputs is not None and not isinstance(inputs, Mapping):
            raise TypeError(f"inputs must be a mapping, not {type(inputs).__name__}")
        if limits is not None:
            given.update(_limits(limits))
        if spool_dir is not None and not isinstance(spool_dir, (str, os.PathLike)):
            raise TypeError(f"spool_dir must be a str or a path, not {type(spool_dir).__name__}")
        if spool_bytes is not None and (isinstance(spool_bytes, bool) or not isinstance(spool_bytes, int)):
            raise TypeError(f"spool_bytes must be an int, not {type(spool_bytes).__name__}")
        given.setdefault("default_session_name", _program_name())

        self._core = _native.Core(
            given,
            dict(os.environ),
            policy=as_policy(policy) or Policy(),
            redact=redact is not False,
            register=skip_backend_session_creation is not True,
            inputs=inputs,
            foreign=foreign,
            spool_dir=None if spool_dir is None else os.fsdecode(spool_dir),
            # What is no size at all is refused there, too.
            spool_bytes=None if spool_bytes is None else min(max(spool_bytes, 0), 2**63),
        )
        self._core.set_owner(weakref.ref(self))
        if prefixes is not None:
            self._core.set_name_filters(*prefixes)
        if foreign_sampler is not None:
            self._core.set_sampler(foreign_sampler)
        self._provider = TracerProvider(self._core)
        self._otel_tracer: OtelTracer = self._provider.get_tracer(_NAME, _native.VERSION)
        self._starter = _native.Starter(
            self._otel_tracer._instrumentation, self._otel_tracer._span_class, capture is not False
        )
        _registry.register(self)
        if self._core.verbose:
            _say_more(self)
        # A disabled tracer passes on what comes in: OTEL_SDK_DISABLED has no effect on propagators.
        install_propagator()
        if self._core.enabled:
            if experiment:
                from tracebaton._experiment import ExperimentProcessor

                self._provider.add_span_processor(ExperimentProcessor(experiment))
            if link_carrier:
                self.link(link_carrier)
            if set_global is None:
                set_global = _under_tracebaton_run() and isinstance(
                    otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider
                )
            if set_global:
                otel_trace.set_tracer_provider(self._provider)

    @classmethod
    def init(cls, *args: Any, **kwargs: Any) -> Tracer:
        """Makes a tracer. Takes the arguments of the class; those that are not given come from the environment.

        `api_key` (`HH_API_KEY`): HoneyHive's; spans go to `server_url` (`HH_API_URL`) then. Without it they go to
        `OTEL_EXPORTER_OTLP_ENDPOINT`, or to the local viewer at `http://127.0.0.1:4318`.
        `project`, `source` (`HH_PROJECT`, `HH_SOURCE`): on every span; the source is always this service's own.
        `session_id`: 1 to 256 characters; a new UUID unless given. `session_name`: the program's name unless given.
        `exporter`: `"honeyhive"`, `"otlp"`, `"console"`, `"memory"`, `"none"`, an object that is a `SpanExporter` of
        OpenTelemetry's SDK, or a list of them. The object is called from a thread of its own.
        `policy`: whom to trust with what (`Policy`, or a dict of its keywords).
        `sampler`: by its name in OpenTelemetry, with `sampler_argument`; or a sampler object of OpenTelemetry's SDK.
        There is no `id_generator`: ids are random bits of the operating system's, which `random_flag` tells others.
        `random_flag=False` keeps new traces from saying that their ids are random (W3C Trace Context level 2): a few
        old receivers refuse a `traceparent` that does. A caller's flag is passed on in any case.
        `limits`: a mapping of `attributes`, `events`, `links`, `attributes_per_event`, `attributes_per_link` (how many)
        and `value_length` (characters, or bytes of bytes); or the `SpanLimits` of OpenTelemetry's SDK.
        `redact=False` leaves secrets in captured values; `capture=False` captures no arguments and results.
        `inputs`: what the session begins with, at HoneyHive. It is registered there when its first span begins, in the
        background, unless `skip_backend_session_creation` is true: then the first span creates it.
        `spool_dir` (`TRACEBATON_SPOOL_DIR`): a directory on a local disk that several processes may share. Spans are
        there from their start on, so that nothing kills them with the process: what one leaves the next one delivers,
        and spans that never ended as errors, "interrupted".
        `spool_bytes` (`TRACEBATON_SPOOL_BYTES`): the size of each process's file there, 64 MiB unless given, 1 MiB at
        least. Spans that it has no room for, or that take more than 1 MiB or an eighth of it, are kept in memory only,
        counted as `unspooled` and told of once.
        `span_name_filters={"include": [{"type": "prefix", "value": …}], "exclude": […]}` exports only spans whose names
        begin so, and none whose names begin as an excluded one.
        `run_id`, `dataset_id`, `datapoint_id` (or `evaluation_config` with them): of the experiment that this runs for,
        in the metadata of every span and of the session.
        `link_carrier`: what comes next in this task or thread goes on in the trace and session of whoever sent the
        carrier: `tracer.link` at once.
        `verbose=True` (`HH_VERBOSE`) has the logger `tracebaton` let records of level DEBUG pass.
        `set_global` makes the provider OpenTelemetry's global one; under `tracebaton-run` it becomes that by itself
        where none is set.

        A wrong type is a `TypeError`, a wrong value a `ValueError`, that names the argument. A wrong value in the
        environment is a warning, and the default holds. The network is never touched.
        """
        return cls(*args, **kwargs)

    @property
    def provider(self) -> TracerProvider:
        """OpenTelemetry's provider, for instrumentors: `instrument(tracer_provider=tracer.provider)`."""
        return self._provider

    @property
    def session_id(self) -> str:
        """This tracer's own session; spans in a caller's context have the caller's."""
        return self._core.session_id

    @property
    def session_name(self) -> str | None:
        """What the session is called."""
        return self._core.session_name

    @property
    def project(self) -> str | None:
        """This service's project."""
        return self._core.project

    @property
    def source(self) -> str:
        """This service's source."""
        return self._core.source

    @property
    def is_initialized(self) -> bool:
        """Always true, as `init` does not fail half-way."""
        return True

    def start_span(
        self,
        name: str,
        *,
        kind: otel_trace.SpanKind = otel_trace.SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[otel_trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        context: Context | None = None,
    ) -> SpanBlock:
        """A block, for `with` or `async with`, with a span that is the current one inside."""
        kwargs: dict[str, Any] = {
            "kind": kind,
            "attributes": attributes,
            "links": links,
            "start_time": start_time,
            "record_exception": record_exception,
            "set_status_on_exception": set_status_on_exception,
        }
        return SpanBlock(self._otel_tracer, self, name, kwargs, context)

    def trace(self, name: str, event_type: str | None = None, **attributes: Any) -> SpanBlock:
        """A block with a span of this event type."""
        if event_type is not None:
            attributes["honeyhive_event_type"] = event_type
        return self.start_span(name, attributes=attributes)

    def enrich_span(
        self,
        more_metadata: Mapping[str, Any] | None = None,
        /,
        *,
        inputs: object = None,
        outputs: object = None,
        metadata: Mapping[str, Any] | None = None,
        metrics: object = None,
        feedback: object = None,
        config: object = None,
        user_properties: object = None,
        error: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        event_type: str | None = None,
        event_name: str | None = None,
        event_id: str | None = None,
        **named_metadata: Any,
    ) -> bool:
        """Puts fields on the current span of this tracer. A mapping that has no name, and keywords that are none of
        these, go to the metadata.

        Returns whether anything was put: not where no span of this tracer is current.
        """
        from tracebaton._enrich import enrich, own_span

        span = own_span(self, current())
        if span is None:
            return False
        fields = {
            "inputs": inputs,
            "outputs": outputs,
            "metadata": _merged(more_metadata, metadata, named_metadata or None),
            "metrics": metrics,
            "feedback": feedback,
            "config": config,
            "user_properties": user_properties,
            "error": error,
            "attributes": attributes,
            "event_type": event_type,
            "event_name": event_name,
            "event_id": event_id,
        }
        try:
            return enrich(span, fields)
        except Exception:
            # What a value's own code raises is not the request's trouble.
            _native.report("a field of a span could not be captured")
            return False

    def enrich_session(
        self,
        metadata: Mapping[str, Any] | None = None,
        *,
        inputs: object = None,
        outputs: object = None,
        metrics: object = None,
        feedback: object = None,
        config: object = None,
        user_properties: object = None,
        session_id: str | None = None,
        **named_metadata: Any,
    ) -> bool:
        """Merges fields into the session that holds here, or into the one that is named. Keywords that are none of
        these go to the metadata.

        HoneyHive is told in the background; anywhere else it is a span without a duration, of event type `session`.
        Returns whether anything was put.
        """
        from tracebaton._enrich_session import enrich_session_of

        fields = {
            "inputs": inputs,
            "outputs": outputs,
            "metadata": _merged(metadata, named_metadata or None) if metadata or named_metadata else None,
            "metrics": metrics,
            "feedback": feedback,
            "config": config,
            "user_properties": user_properties,
        }
        return enrich_session_of(self, session_id, fields)

    force_flush = _registry.Registered.flush

    def shutdown(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far, and takes no more. True only if all of it was delivered within the time.

        The end of the process does the same for tracers that are left. `os._exit` does not: flush before it.
        """
        _registry.forget(self)
        return self._provider.shutdown(timeout_millis)

    def stats(self) -> dict[str, Any]:
        """What became of the spans so far: `queued`, `sent`, `dropped` by reason, `retried`, `last_error`,
        `not_sampled`; `spooled`, which were not delivered but are kept for the next start; `unspooled`, which the spool
        had no room for, and `unspooled_starts`, of which it does not know that they began; `recovered`, which processes
        that died had left; `inbound_dropped`: what carriers held that was left out, by rule id, and `outbound_dropped`,
        the same of what was to be sent. `destinations` says the first five of each address, or of the `console`, and
        `sessions` of the requests that tell HoneyHive about sessions."""
        return self._core.stats()

    def __repr__(self) -> str:
        return f"<Tracer project={self.project!r} source={self.source!r}>"


def _foreign_exporters(given: dict[str, Any]) -> list[Any]:
    """Takes OpenTelemetry's exporters out of `exporter`, which keeps the names: what calls them."""
    exporter = given.get("exporter")
    if exporter is None:
        return []
    several = exporter if isinstance(exporter, (list, tuple)) else [exporter]
    objects = [one for one in several if not isinstance(one, str)]
    if objects:
        from tracebaton._foreign import ForeignWorker, is_exporter

        for one in objects:
            if not is_exporter(one):
                kind = type(one).__name__
                raise TypeError(f"exporter must be a str, a SpanExporter or a list of them, not {kind}")
    given["exporter"] = [one for one in several if isinstance(one, str)] or ["none"]
    return [ForeignWorker(one) for one in objects]


def _fields_of(config: object, names: Iterable[str]) -> dict[str, Any]:
    """The settings of these names in one of HoneyHive's configuration objects, or in a mapping."""
    if config is None:
        return {}
    fields = config if isinstance(config, Mapping) else {name: getattr(config, name, None) for name in names}
    return {name: fields[name] for name in names if fields.get(name) is not None}


def _say_more(tracer: Tracer) -> None:
    import logging

    logger = logging.getLogger(_NAME)
    logger.setLevel(logging.DEBUG)
    logger.debug("a tracer: project %s, source %s, session %s", tracer.project, tracer.source, tracer.session_id)


def _under_tracebaton_run() -> bool:
    """Whether `tracebaton-run` started this process: then its hook is loaded."""
    return "_tracebaton_hook" in sys.modules


# With the fields of the SDK's `SpanLimits`.
_LIMITS = {
    "attributes": "max_span_attributes",
    "events": "max_events",
    "links": "max_links",
    "attributes_per_event": "max_event_attributes",
    "attributes_per_link": "max_link_attributes",
    "value_length": "max_span_attribute_length",
}


def _limits(limits: object) -> dict[str, Any]:
    """The settings that an argument `limits` stands for."""
    if all(hasattr(limits, field) for field in _LIMITS.values()):
        given = {name: getattr(limits, field) for name, field in _LIMITS.items()}
        # `None` is no limit there. Texts have none here either, unless somebody sets one.
        limits = {
            name: 2**31 if value is None else value
            for name, value in given.items()
            if value is not None or name != "value_length"
        }
    if not isinstance(limits, Mapping):
        raise TypeError(f"limits must be a mapping or SpanLimits, not {type(limits).__name__}")
    for name in limits:
        if name not in _LIMITS:
            raise ValueError(f"limits: {name!r} is none of {', '.join(_LIMITS)}")
    return {f"max_{name}": value for name, value in limits.items()}


def _merged(*parts: Any) -> Any:
    """Mappings as one, later ones over earlier ones; if one is none, the last that is something."""
    given = [part for part in parts if part is not None]
    if all(isinstance(part, Mapping) for part in given):
        return {key: value for part in given for key, value in part.items()} or None
    return given[-1]


def _program_name() -> str | None:
    """The file of the program that runs."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return path if isinstance(path, str) else None


def with_session(context: Context, tracer: Tracer, session_id: str) -> Context:
    """`context` with another session for this tracer."""
    base: Any = context.get(SCOPE_KEY)
    return derived(context, SCOPE_KEY, _native.Scope.with_session(base, tracer._core, session_id))
