"""Hosts of the component and of the plain module, each with `call(function, *arguments)`: see `wire.py` for values.

Two run here, in PyPI's `wasmtime`. The others are programs, which get calls at their standard input: an operation's
number and the length of its arguments (both `u32`, little-endian), then the arguments; they answer with the length of
the result and the result, or with a length of 0xffffffff if the call is refused.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import component as wc
from wire import Reader, Type, encode

ROOT = Path(__file__).resolve().parent.parent.parent
COMPONENT = ROOT / "build/wasm/tracebaton-context.wasm"
PLAIN = ROOT / "build/wasm/tracebaton-context-plain.wasm"
PACKAGE = "tracebaton:context/{}@0.1.0"
REFUSED = 0xFFFF_FFFF
RANDOM: Type = ("tuple", [("u64",), ("tuple", [("u64",), ("u64",)])])


def operations() -> dict[str, tuple[str, int | None]]:
    """The functions by name, each with its interface and its number in the plain module: the documentation's table."""
    text = (ROOT / "docs/component.md").read_text()
    rows = re.findall(r"^\| (\d+|—) \| `(\w+)\.([a-z-]+)` \|", text, re.MULTILINE)
    return {name: (interface, None if number == "—" else int(number)) for number, interface, name in rows}


OPERATIONS = operations()


def type_of(valtype: Any) -> Type:
    """A type as `wire.py` has it."""
    match valtype:
        case wc.ListType():
            return ("list", type_of(valtype.element))
        case wc.RecordType():
            return ("record", [(name, type_of(inner)) for name, inner in valtype.fields])
        case wc.TupleType():
            return ("tuple", [type_of(inner) for inner in valtype.elements])
        case wc.VariantType():
            return ("variant", [(name, None if inner is None else type_of(inner)) for name, inner in valtype.cases])
        case wc.EnumType():
            return ("enum", list(valtype.names))
        case wc.OptionType():
            return ("option", type_of(valtype.payload))
        case wc.ResultType():
            return ("result", type_of(valtype.ok), type_of(valtype.err))
        case _:
            return (type(valtype).__name__.lower().replace("float64", "f64"),)


def tagged(cases: list[tuple[str, Type]]) -> bool:
    """Whether wasmtime wants a `Variant`: only where the classes of two cases are the same."""
    classes = [class_of(inner) for _, inner in cases]
    return len(set(classes)) != len(classes)


def class_of(kind: Type) -> Any:
    if kind is None:
        return None
    names = {"u32": int, "u64": int, "s64": int, "u8": int, "f64": float, "string": str, "enum": str, "tuple": tuple}
    if kind == ("list", ("u8",)):
        return bytes
    return names.get(kind[0], kind[0])


def to_host(kind: Type, value: Any) -> Any:
    match kind:
        case ("list", item) if item != ("u8",):
            return [to_host(item, one) for one in value]
        case ("option", inner):
            return None if value is None else to_host(inner, value)
        case ("tuple", items):
            return tuple(to_host(inner, one) for inner, one in zip(items, value, strict=True))
        case ("record", fields):
            record = wc.Record()
            for name, inner in fields:
                setattr(record, name, to_host(inner, value[name]))
            return record
        case ("variant", cases):
            inner = dict(cases)[value[0]]
            held = None if inner is None else to_host(inner, value[1])
            return wc.Variant(value[0], held) if tagged(cases) else held
        case _:
            return value


def from_host(kind: Type, value: Any) -> Any:
    match kind:
        case ("list", item) if item != ("u8",):
            return [from_host(item, one) for one in value]
        case ("option", inner):
            return None if value is None else from_host(inner, value)
        case ("tuple", items):
            return tuple(from_host(inner, one) for inner, one in zip(items, value, strict=True))
        case ("record", fields):
            return {name: from_host(inner, getattr(value, name)) for name, inner in fields}
        case ("variant", cases):
            return from_cases(cases, value)
        case ("result", ok, err):
            return from_cases([("ok", ok), ("err", err)], value)
        case _:
            return value


def from_cases(cases: list[tuple[str, Type]], value: Any) -> Any:
    if tagged(cases):
        inner = dict(cases)[value.tag]
        return (value.tag, None if inner is None else from_host(inner, value.payload))
    python = {"record": wc.Record, "variant": wc.Variant, "list": list, "bool": bool}
    for name, inner in cases:
        kind = class_of(inner)
        kind = python.get(kind, kind) if isinstance(kind, str) else kind
        if value is None if kind is None else isinstance(value, kind):
            return (name, None if inner is None else from_host(inner, value))
    raise AssertionError(value)


class Component:
    """The component in PyPI's `wasmtime`. `random` are the numbers that its `wasi:random` gives, in turn."""

    def __init__(self, random: list[int] | None = None, clocks: list[int] | None = None) -> None:
        engine = wasmtime.Engine()
        self.component = wc.Component.from_file(engine, COMPONENT)
        self.store = wasmtime.Store(engine)
        linker = wc.Linker(engine)
        if random is None:
            linker.add_wasip2()
            self.store.set_wasi(wasmtime.WasiConfig())
        else:
            self._own_imports(linker, random, clocks or [])
        self.instance = linker.instantiate(self.store, self.component)
        self.functions: dict[str, tuple[wc.Func, list[Type], Type]] = {}
        for name, (interface, _) in OPERATIONS.items():
            index = self.component.get_export_index(PACKAGE.format(interface))
            assert index is not None, interface
            function = self.instance.get_func(self.store, self.component.get_export_index(name, index))
            assert function is not None, name
            kind = function.type(self.store)
            self.functions[name] = (function, [type_of(it) for _, it in kind.params], type_of(kind.result))

    @staticmethod
    def _own_imports(linker: wc.Linker, random: list[int], clocks: list[int]) -> None:
        numbers, times = iter(random), iter(clocks)
        with linker.root() as root:
            with root.add_instance("wasi:random/random@0.2.0") as it:
                it.add_func("get-random-u64", lambda _: next(numbers))
            with root.add_instance("wasi:clocks/wall-clock@0.2.0") as it:

                def now(_: Any) -> Any:
                    time = wc.Record()
                    seconds, nanoseconds = divmod(next(times), 10**9)
                    time.__dict__.update(seconds=seconds, nanoseconds=nanoseconds)
                    return time

                it.add_func("now", now)
            with root.add_instance("wasi:clocks/monotonic-clock@0.2.0") as it:
                it.add_func("now", lambda _: next(times))

    def call(self, name: str, *arguments: Any) -> Any:
        function, params, result = self.functions[name]
        given = [to_host(kind, value) for kind, value in zip(params, arguments, strict=True)]
        value = from_host(result, function(self.store, *given))
        function.post_return(self.store)
        return value


def types() -> dict[str, tuple[list[Type], Type]]:
    """The parameters and the result of each function, as the component says."""
    return {name: (params, result) for name, (_, params, result) in Component().functions.items()}


class Encoded(ABC):
    """A host to which calls go as bytes."""

    #: Whether random numbers are an argument.
    plain = True

    def __init__(self, known: dict[str, tuple[list[Type], Type]]) -> None:
        self.types = known

    def call(self, name: str, *arguments: Any) -> Any:
        params, result = self.types[name]
        number = OPERATIONS[name][1]
        if name == "new-child" and self.plain:
            params, arguments = [RANDOM, *params], ((1, (2, 3)), *arguments)
        out = bytearray()
        for kind, value in zip(params, arguments, strict=True):
            encode(kind, value, out)
        assert number is not None, name
        answer = self.run(number, bytes(out))
        assert answer is not None, f"{name}: refused"
        reader = Reader(answer)
        value = reader.decode(result)
        reader.end()
        return value

    @abstractmethod
    def run(self, number: int, arguments: bytes) -> bytes | None:
        """The answer of an operation, encoded; `None` where the module refuses."""


class Plain(Encoded):
    """The plain module in PyPI's `wasmtime`."""

    def __init__(self, known: dict[str, tuple[list[Type], Type]]) -> None:
        super().__init__(known)
        engine = wasmtime.Engine()
        module = wasmtime.Module.from_file(engine, PLAIN)
        assert module.imports == []
        self.store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.memory = exports["memory"]
        self.alloc, self.run_it, self.free = (exports[f"tracebaton_{name}"] for name in ("alloc", "call", "free"))

    def run(self, number: int, arguments: bytes) -> bytes | None:
        pointer = self.alloc(self.store, len(arguments))
        self.memory.write(self.store, arguments, pointer)
        packed = self.run_it(self.store, number, pointer, len(arguments))
        if packed == 0:
            return None
        pointer, length = packed >> 32 & REFUSED, packed & REFUSED
        answer = bytes(self.memory.read(self.store, pointer, pointer + length))
        self.free(self.store, pointer, length)
        return answer


class Program(Encoded):
    """A host that is a program of its own."""

    def __init__(self, known: dict[str, tuple[list[Type], Type]], command: list[str], plain: bool, cwd: Path) -> None:
        super().__init__(known)
        self.plain = plain
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd)

    def run(self, number: int, arguments: bytes) -> bytes | None:
        pipe_in, pipe_out = self.process.stdin, self.process.stdout
        assert pipe_in is not None and pipe_out is not None
        pipe_in.write(struct.pack("<II", number, len(arguments)) + arguments)
        pipe_in.flush()
        head = pipe_out.read(4)
        assert len(head) == 4, f"the host ended with {self.process.wait(10)}"
        (length,) = struct.unpack("<I", head)
        return None if length == REFUSED else pipe_out.read(length)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


def write_types(known: dict[str, tuple[list[Type], Type]], path: Path) -> None:
    """The types, for a host that cannot ask for them: by operation's number the interface, name, parameters, result."""
    numbered = [(number, interface, name) for name, (interface, number) in OPERATIONS.items() if number is not None]
    rows = {number: [interface, name, *known[name]] for number, interface, name in numbered}
    path.write_text(json.dumps(rows))
