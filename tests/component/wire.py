"""Types of the component's interfaces, and the encoding of values by type that `docs/component.md` describes.

A type is a tuple: `("string",)`, `("list", item)`, `("record", [(name, type), …])` and so on. Values are Python's: a
record is a dict, an enum its case's name, a variant `(case, value)`, a result `("ok", value)` or `("err", value)`, an
option the value or None, `list<u8>` bytes.
"""

from __future__ import annotations

import struct
from typing import Any

Type = Any

NUMBERS = {"u32": "<I", "u64": "<Q", "s64": "<q", "f64": "<d", "u8": "<B"}
U8: Type = ("u8",)


def encode(kind: Type, value: Any, out: bytearray) -> None:
    match kind:
        case ("bool",):
            out.append(value)
        case ("string",):
            encode_bytes(value.encode(), out)
        case ("list", ("u8",)):
            encode_bytes(value, out)
        case ("list", item):
            out += struct.pack("<I", len(value))
            for one in value:
                encode(item, one, out)
        case ("option", inner):
            out.append(value is not None)
            if value is not None:
                encode(inner, value, out)
        case ("tuple", items):
            for inner, one in zip(items, value, strict=True):
                encode(inner, one, out)
        case ("record", fields):
            assert set(value) == {name for name, _ in fields}, (set(value), fields)
            for name, inner in fields:
                encode(inner, value[name], out)
        case ("enum", names):
            out.append(names.index(value))
        case ("variant", cases):
            at = [name for name, _ in cases].index(value[0])
            out.append(at)
            if cases[at][1] is not None:
                encode(cases[at][1], value[1], out)
        case ("result", ok, err):
            out.append(value[0] == "err")
            encode(err if value[0] == "err" else ok, value[1], out)
        case (number,):
            out += struct.pack(NUMBERS[number], value)


def encode_bytes(value: bytes, out: bytearray) -> None:
    out += struct.pack("<I", len(value))
    out += value


class Reader:
    """Takes values from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "the bytes end too early"
        self.at += count
        return taken

    def number(self, kind: str) -> Any:
        form = NUMBERS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def decode(self, kind: Type) -> Any:
        match kind:
            case ("bool",):
                return bool(self.number("u8"))
            case ("string",):
                return self.take(self.number("u32")).decode()
            case ("list", ("u8",)):
                return self.take(self.number("u32"))
            case ("list", item):
                return [self.decode(item) for _ in range(self.number("u32"))]
            case ("option", inner):
                return self.decode(inner) if self.number("u8") else None
            case ("tuple", items):
                return tuple(self.decode(inner) for inner in items)
            case ("record", fields):
                return {name: self.decode(inner) for name, inner in fields}
            case ("enum", names):
                return names[self.number("u8")]
            case ("variant", cases):
                name, inner = cases[self.number("u8")]
                return (name, None if inner is None else self.decode(inner))
            case ("result", ok, err):
                return ("err", self.decode(err)) if self.number("u8") else ("ok", self.decode(ok))
            case (number,):
                return self.number(number)

    def end(self) -> None:
        assert self.at == len(self.data), "bytes are left over"
