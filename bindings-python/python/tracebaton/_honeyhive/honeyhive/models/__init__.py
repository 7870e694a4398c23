"""`honeyhive.models`: of HoneyHive's data models the one that tracing uses."""

from enum import Enum as _Enum

from tracebaton._honeyhive.absent import attribute_of as _attribute_of


class EventType(str, _Enum):
    """What a span stands for."""

    model = "model"
    tool = "tool"
    chain = "chain"
    session = "session"


__getattr__ = _attribute_of(__name__)

__all__ = ["EventType"]
