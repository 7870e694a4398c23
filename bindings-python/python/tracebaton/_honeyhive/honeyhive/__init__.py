"""`honeyhive` under tracebaton-run: the names of its tracing API, by tracebaton."""

from tracebaton import (
    HoneyHiveTracer,
    atrace,
    enrich_session,
    enrich_span,
    flush,
    set_default_tracer,
    trace,
    trace_class,
)
from tracebaton._honeyhive.absent import API_VERSION as __version__
from tracebaton._honeyhive.absent import attribute_of as _attribute_of

from . import models, tracer
from .utils import DotDict, get_logger

__getattr__ = _attribute_of(__name__)

__all__ = [
    "DotDict",
    "HoneyHiveTracer",
    "__version__",
    "atrace",
    "enrich_session",
    "enrich_span",
    "flush",
    "get_logger",
    "models",
    "set_default_tracer",
    "trace",
    "trace_class",
    "tracer",
]
