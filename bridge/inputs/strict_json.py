"""JSON from strangers: read strictly, in bounded time, with every fault named rather than raised from deep inside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import MessageError

MAX_BRACKETS = 500
"""Far more than any message here needs, and far below the interpreter's recursion limit."""
MAX_MEMBERS = 20_000
"""Bounds the time that a hostile list of a million zeros could take from the loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One JSON object. `flaws` are faults that leave the other members legible; `repeated` are keys that came twice."""

    members: dict[str, Any]
    flaws: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()


def read_object(payload: bytes, *, max_bytes: int) -> Object:
    """Read one JSON object in UTF-8 of at most `max_bytes`.

    NaN and Infinity become None and a flaw. Raises MessageError for everything that is no JSON object, is nested
    without end or has too many members.
    """
    if not payload:
        raise MessageError("the payload is empty")
    if len(payload) > max_bytes:
        raise MessageError(f"{len(payload)} bytes are more than max_payload_bytes = {max_bytes}")
    if payload.count(b"[") + payload.count(b"{") > MAX_BRACKETS:
        raise MessageError(f"more than {MAX_BRACKETS} brackets: nested or listed without end")
    if payload.count(b",") > MAX_MEMBERS:
        raise MessageError(f"more than {MAX_MEMBERS} members")
    flaws: set[str] = set()
    repeated: set[str] = set()

    def refuse_constant(name: str) -> None:
        flaws.add(f"{name} is no JSON number")

    def collect(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            repeated.update(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return members

    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MessageError(f"not UTF-8 at byte {exc.start}") from exc
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=refuse_constant, object_pairs_hook=collect)
    except json.JSONDecodeError as exc:
        raise MessageError(f"not JSON: {exc.msg} at character {exc.pos}") from exc
    except (ValueError, RecursionError) as exc:
        raise MessageError("not JSON that can be read: a number with too many digits, or nested too deep") from exc
    if not isinstance(value, dict):
        raise MessageError(f"a JSON {_kind(value)}, not an object")
    return Object(members=value, flaws=tuple(sorted(flaws)), repeated=frozenset(repeated))


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", type(None): "null"}
    return names.get(type(value), "value")
