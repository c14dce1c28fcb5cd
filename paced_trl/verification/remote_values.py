"""
Values and calls between two processes that share no memory: a student's program, and the tests that judge it.

Plain values are copied, as JSON, so that what the tests compare is data and never an object of the student's.
Anything else is a handle: the other side calls it, asks for its attributes and items, and never sees inside. A list,
dict or set that a call changed is changed on both sides. Standard library only; loaded by path inside the sandbox.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import importlib
import inspect
import io
import json
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any


# Modules whose functions and classes are taken from this process where the other one names them.
_MODULES = """
builtins math cmath collections itertools functools operator fractions decimal datetime string re random heapq bisect
statistics typing copy json numbers enum dataclasses time calendar textwrap
"""
SHARED_MODULES = frozenset(_MODULES.split())
# Not taken by name from a program that nobody trusts.
_NEVER_SHARED = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "exit", "quit", "globals"}
_BOTH_REMOTE = "add sub mul truediv floordiv mod matmul pow and_ or_ xor lt le gt ge".split()  # noqa: SIM905
_FRAME_ATTRIBUTES = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_")
_EXACT: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "complex": (complex, lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    "range": (range, lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
    "Fraction": (fractions.Fraction, str, fractions.Fraction),
    "Decimal": (decimal.Decimal, str, decimal.Decimal),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
}
_CONTAINERS: dict[str, Callable[[], Any]] = {
    "list": list,
    "set": set,
    "dict": dict,
    "deque": collections.deque,
    "Counter": collections.Counter,
    "OrderedDict": collections.OrderedDict,
    "bytearray": bytearray,
}


class ProgramEndedError(BaseException):
    """Raised where the other process is gone, or ended itself in a call."""


class Remote:
    """An object of the other process. What compares it with plain values decides here: it equals none."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def _ask(self, name: str, *arguments: Any) -> Any:
        return self._peer.request(name, self, *arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", arguments, named)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", key, value)

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return self._ask("bool") is True

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._ask("iter")
        while True:
            found = self._peer.request("next", iterator)
            if not found:
                return
            yield found[0]

    def __next__(self) -> Any:
        found = self._ask("next")
        if not found:
            raise StopIteration
        return found[0]

    def __contains__(self, value: Any) -> bool:
        return any(item == value for item in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return self._number == other._number or self._ask("eq", other) is True
        return False

    def __hash__(self) -> int:
        return hash(self._number)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self._peer.request("isinstance", value, self) is True

    def __enter__(self) -> Any:
        return self._ask("enter")

    def __exit__(self, *error: object) -> None:
        self._ask("exit")


def _between_remotes(name: str) -> Callable[[Remote, object], Any]:
    def apply(self: Remote, other: object) -> Any:
        # A plain operand may be the expected value, and a method of the student's must not see it.
        return self._ask("operator", name, other) if isinstance(other, Remote) else NotImplemented

    return apply


for _name in _BOTH_REMOTE:
    setattr(Remote, f"__{_name.strip('_')}__", _between_remotes(_name))


class Peer:
    """
    One end of the connection: asks the other side, and serves what it asks meanwhile.

    With `guarded`, the other side may call what it was given and read public attributes, and nothing else.
    """

    def __init__(self, receiving: int, sending: int, *, guarded: bool) -> None:
        self._receiving, self._sending = os.fdopen(receiving, "rb"), os.fdopen(sending, "wb")
        self._guarded = guarded
        self._handles: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._exceptions: dict[int, type[BaseException]] = {}
        self.names: dict[str, Any] = {}

    def request(self, name: str, *arguments: Any) -> Any:
        """Return what the other side answers; raises what it raised."""
        sent: dict[str, Any] = {}
        self._send({"ask": name, "with": [self._encode(argument, sent, set()) for argument in arguments]})
        while True:
            message = self._receive()
            if "ask" in message:
                self._serve(message)
                continue
            sys.stdout.write(message.get("printed", ""))
            for changed in message.get("changed", ()):
                self._decode(changed, sent)
            if "error" in message:
                raise self._raised(message["error"], sent)
            return self._decode(message["answer"], sent)

    def serve(self) -> None:
        """Answer until the other side is gone."""
        while True:
            self._serve(self._receive())

    def _send(self, message: dict[str, Any]) -> None:
        self._sending.write(json.dumps(message).encode() + b"\n")
        self._sending.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._receiving.readline()
        if not line.endswith(b"\n"):
            raise ProgramEndedError
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ProgramEndedError
        return message

    def _serve(self, message: dict[str, Any]) -> None:
        got: dict[str, Any] = {}
        reply: dict[str, Any] = {}
        output, before = io.StringIO(), sys.stdout
        known: dict[str, Any] = {}
        try:
            arguments = [self._decode(argument, got) for argument in message["with"]]
            known = {f"={id(value)}": name for name, value in got.items()}
            sys.stdout = output
            answer = self._answer(message["ask"], arguments)
            reply["answer"] = self._encode(answer, dict(known), set())
        except Exception as error:
            reply = {"error": [self._encode_object(type(error)), str(error)]}
        finally:
            sys.stdout = before
        seen: set[str] = set()
        reply["changed"] = [self._encode(value, dict(known), seen) for value in got.values()]
        reply["printed"] = output.getvalue()
        self._send(reply)

    def _answer(self, name: str, arguments: list[Any]) -> Any:
        if name in ("getattr", "setattr") and self._guarded and str(arguments[1]).startswith(_FRAME_ATTRIBUTES):
            raise AttributeError(arguments[1])
        if name == "names":
            return {name: self.names[name] for name in arguments[0] if name in self.names and not self._guarded}
        if name == "attribute" and not self._guarded:
            if arguments[0] not in self.names:
                raise AttributeError(arguments[0])
            return self.names[arguments[0]]
        if name == "call":
            function, positional, named = arguments
            result = function(*positional, **named)
            if inspect.iscoroutine(result):
                import asyncio

                return asyncio.run(result)
            return result
        if name == "next":
            return next(([item] for item in arguments[0]), [])
        if name == "operator" and arguments[1] in _BOTH_REMOTE:
            return getattr(operator, arguments[1])(arguments[0], arguments[2])
        functions: dict[str, Callable[..., Any]] = {
            "getattr": getattr,
            "setattr": setattr,
            "getitem": operator.getitem,
            "setitem": operator.setitem,
            "len": len,
            "bool": bool,
            "str": str,
            "repr": repr,
            "iter": iter,
            "isinstance": isinstance,
            "eq": lambda one, other: bool(one == other),
            "enter": lambda manager: manager.__enter__(),
            "exit": lambda manager: manager.__exit__(None, None, None),
        }
        return functions[name](*arguments)

    def _encode(self, value: Any, known: dict[str, Any], seen: set[str]) -> Any:
        """Return a value as JSON, itself or a tagged list; `known` names containers by `=id`, and has them by name."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        for tag, (kind, dump, _) in _EXACT.items():
            if type(value) is kind:
                return ["exact", tag, dump(value)]
        if isinstance(value, Remote) and value._peer is self:
            return ["yours", value._number]
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            items = [self._encode(item, known, seen) for item in value]
            return ["tuple", type(value).__name__ if fields else None, fields, items]
        if isinstance(value, frozenset):
            return ["frozenset", [self._encode(item, known, seen) for item in value]]
        if isinstance(value, slice):
            return ["slice", [value.start, value.stop, value.step]]
        kinds = [base for base in type(value).__mro__ if base.__name__ in _CONTAINERS]
        if any(base.__module__ in ("builtins", "collections") for base in kinds):
            return self._encode_container(kinds[0].__name__, value, known, seen)
        if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
            return ["numpy", str(value.dtype), value.tolist()] if getattr(value, "ndim", 0) else value.tolist()
        return self._encode_object(value)

    def _encode_container(self, tag: str, value: Any, known: dict[str, Any], seen: set[str]) -> Any:
        name = known.get(f"={id(value)}")
        if name is None:
            name = f"{os.getpid()}:{id(value)}"
            known[name] = value  # kept alive, and found again by the answer
            known[f"={id(value)}"] = name
        if name in seen:
            return ["again", name]
        seen.add(name)
        if isinstance(value, dict):
            encoded = [[self._encode(part, known, seen) for part in item] for item in list(value.items())]
        else:
            encoded = [self._encode(item, known, seen) for item in list(value)]
        return ["container", tag, name, encoded]

    def _encode_object(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            if value.__name__ in SHARED_MODULES:
                return ["shared", value.__name__, None]
        elif isinstance(value, type) or callable(value):
            module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
            is_shared = module in SHARED_MODULES and name not in _NEVER_SHARED
            if is_shared and getattr(sys.modules.get(str(module)), str(name), None) is value:
                return ["shared", module, name]
        number = self._numbers.setdefault(id(value), len(self._numbers))
        self._handles[number] = value
        if isinstance(value, type) and issubclass(value, Exception):
            base = next(base.__name__ for base in value.__mro__ if base.__module__ == "builtins")
            return ["exception", number, value.__name__, base]
        return ["mine", number]

    def _decode(self, value: Any, table: dict[str, Any]) -> Any:
        if not isinstance(value, list):
            return value
        tag, *rest = value
        if tag == "exact":
            return _EXACT[rest[0]][2](rest[1])
        if tag == "yours":
            return self._handles[rest[0]]
        if tag == "mine":
            return Remote(self, rest[0])
        if tag == "tuple":
            items = [self._decode(item, table) for item in rest[2]]
            return collections.namedtuple(rest[0], rest[1])(*items) if rest[1] else tuple(items)
        if tag == "frozenset":
            return frozenset(self._decode(item, table) for item in rest[0])
        if tag == "slice":
            return slice(*rest[0])
        if tag == "again":
            return table[rest[0]]
        if tag == "container":
            return self._decode_container(rest[0], rest[1], rest[2], table)
        if tag == "numpy":
            try:
                return importlib.import_module("numpy").array(rest[1], dtype=rest[0])
            except (ImportError, TypeError, ValueError):
                return rest[1]
        if tag == "exception":
            return self._exception(*rest)
        if tag == "shared" and rest[0] in SHARED_MODULES and rest[1] not in _NEVER_SHARED:
            module = importlib.import_module(rest[0])
            return module if rest[1] is None else getattr(module, rest[1])
        raise ProgramEndedError

    def _decode_container(self, tag: str, name: str, items: list[Any], table: dict[str, Any]) -> Any:
        target = table.get(name)
        if target is None or f"={id(target)}" not in table:
            target = table.setdefault(name, _CONTAINERS[tag]())
        if tag in ("dict", "Counter", "OrderedDict"):
            pairs = [(self._decode(key, table), self._decode(item, table)) for key, item in items]
            target.clear()
            for key, item in pairs:
                target[key] = item
            return target
        values = [self._decode(item, table) for item in items]
        if tag in ("list", "bytearray"):
            target[:] = values
        else:
            target.clear()
            (target.update if tag == "set" else target.extend)(values)
        return target

    def _raised(self, error: list[Any], table: dict[str, Any]) -> BaseException:
        kind = self._decode(error[0], table)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(error[1])
            except TypeError:
                return RuntimeError(error[1])
        return ProgramEndedError()

    def _exception(self, number: int, name: str, base: str) -> type[BaseException]:
        """Return a class of this process that stands for an exception class of the other."""
        if number not in self._exceptions:
            kind = getattr(builtins, base, None)
            parent = kind if isinstance(kind, type) and issubclass(kind, Exception) else Exception
            self._exceptions[number] = type(str(name), (parent,), {})
        return self._exceptions[number]


def same_value(result: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Return whether a result is the expected value from JSON, where tuples are lists and keys are text."""
    if _same(result, expected, tolerance):
        return True
    # Some data sets wrap the value in a list of its own.
    return isinstance(expected, list) and len(expected) == 1 and _same(result, expected[0], tolerance)


def _same(result: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(result, Remote):
        return False
    if isinstance(result, list | tuple | collections.deque) and isinstance(expected, list | tuple):
        return len(result) == len(expected) and all(map(lambda one, two: _same(one, two, tolerance), result, expected))
    if isinstance(result, dict) and isinstance(expected, dict):
        ours = {str(key): value for key, value in result.items()}
        theirs = {str(key): value for key, value in expected.items()}
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key], tolerance) for key in ours)
    if isinstance(result, float) or isinstance(expected, float):
        numbers = isinstance(result, int | float) and isinstance(expected, int | float)
        return numbers and (result == expected or abs(result - expected) <= tolerance * max(1.0, abs(expected)))
    return type(result) is type(expected) and bool(result == expected)
