"""The JSON documents that people, flows and records see: verdict, gate report, alarm, status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bridge.domain.alarms import ALARMS, AlarmKind
from bridge.domain.gate import GateOrder
from bridge.domain.part import Result
from bridge.domain.rfc3339 import format_utc
from bridge.domain.status import ChallengeShown, Counters, StationStatus
from bridge.domain.verdict import Disposition, Region

Document = dict[str, Any]
"""A JSON object that holds only None, bool, int, finite float, str, lists and objects of these."""

TIMINGS = ("queue", "decode", "preprocess", "inference", "total")
COUNTER_KEYS: Mapping[str, str] = MappingProxyType({"passed": "pass", "failed": "fail"})
"""Counters whose name in a document differs from the one in `Counters` (`pass` is a word of the language)."""

_STATUS_KEYS = (
    "online", "state", "recipe", "model", "model_sha256", "counters", "heartbeat", "degraded", "stop_request", "ready",
    "busy", "error_code", "error_text", "belt_speed_mm_s", "last_sequence", "not_ready", "inhibited", "gate_unguarded",
    "plc_heartbeat_lost", "dry_run", "challenge", "alarms", "recipes",
)  # fmt: skip


def encode(document: Document) -> str:
    """Write a document as strict JSON on one line, in ASCII; raises ValueError rather than writing NaN."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def verdict_document(result: Result) -> Document:
    """Show one part's result as topic `verdict`, the records and GetResult do: every key always there, null for none.

    `encoder` is the count at the trigger, latched or extrapolated. `gate` is null for a part that was to pass and that
    no sweep touched; a reject without an order (no speed, replayed) has `state` "none".
    """
    part, judgement = result.part, result.judgement
    return {
        "line": part.line,
        "station": part.station,
        "part_id": part.part_id,
        "sequence": part.sequence,
        "epoch": part.epoch,
        "verdict": judgement.code.name,
        "code": int(judgement.code),
        "disposition": result.disposition.name,
        "reason": judgement.reason,
        "label": judgement.label,
        "score": _finite(judgement.score, digits=6),
        "regions": [_region(region) for region in judgement.regions],
        "recipe": part.recipe.reference,
        "model": result.model,
        "triggered_utc": format_utc(part.triggered_utc_ns),
        "captured_utc": None if result.captured_utc_ns is None else format_utc(result.captured_utc_ns),
        "decided_utc": format_utc(result.decided_utc_ns),
        "timing_ms": _timing(result.timing_ms),
        "encoder": part.trigger.encoder_counts if part.count_at_trigger is None else part.count_at_trigger,
        "gate": _gate(result),
        "picture": result.picture,
        "replayed": result.replayed,
    }


def gate_report_document(
    event: str, result: Result, order: GateOrder, *, error_ms: float | None = None, reason: str | None = None
) -> Document:
    """Tell what became of a gate order. `error_ms` is the measured firing error; nothing may actuate from a report."""
    return {
        "event": event,
        "sequence": result.part.sequence,
        "part_id": result.part.part_id,
        **_moments(result, order),
        "error_ms": _finite(error_ms),
        "reason": order.reason if reason is None else reason,
    }


def alarm_document(kind: AlarmKind, *, raised: bool, text: str, at_utc_ns: int) -> Document:
    """Tell of an alarm that was raised or cleared."""
    return {
        "code": kind.code,
        "name": kind.name,
        "state": "raised" if raised else "cleared",
        "severity": kind.severity,
        "text": text or kind.text,
        "ts": format_utc(at_utc_ns),
    }


def status_document(status: StationStatus) -> Document:
    """Show the station's status as the retained topic `status` does."""
    return {
        "online": status.online,
        "state": status.state.value,
        "recipe": status.recipe or None,
        "model": status.model or None,
        "model_sha256": status.model_sha256 or None,
        "counters": counters_document(status.counters),
        "heartbeat": status.heartbeat,
        "degraded": status.degraded,
        "stop_request": status.stop_request,
        "ready": status.ready,
        "busy": status.busy,
        "error_code": status.error_code,
        "error_text": status.error_text,
        "belt_speed_mm_s": _finite(status.belt_speed_mm_s),
        "last_sequence": status.last_sequence,
        "not_ready": list(status.not_ready),
        "inhibited": list(status.inhibited),
        "gate_unguarded": status.gate_unguarded,
        "plc_heartbeat_lost": status.plc_heartbeat_lost,
        "dry_run": status.dry_run,
        "challenge": _challenge(status.challenge),
        "alarms": [_standing(name, text) for name, text in status.alarms],
        "recipes": list(status.recipes),
    }


def _standing(name: str, text: str) -> Document:
    kind = ALARMS[name]
    return {"code": kind.code, "name": name, "severity": kind.severity, "text": text}


def _challenge(challenge: ChallengeShown) -> Document:
    passed = challenge.passed_utc_ns
    return {
        "state": challenge.state,
        "due": challenge.due,
        "passed_utc": None if passed is None else format_utc(passed),
    }


def offline_document() -> Document:
    """Give the last will: the keys of a status, of which only `online` is known (false)."""
    return {key: False if key == "online" else None for key in _STATUS_KEYS}


def counters_document(counters: Counters) -> Document:
    """Name the counters as the contract does (`pass`, `fail`), with the parts in flight beside them."""
    names = Counters.__dataclass_fields__
    counts = {COUNTER_KEYS.get(name, name): getattr(counters, name) for name in names}
    return {**counts, "in_flight": counters.in_flight}


def model_document(
    active: Document | None, *, shadow: Document | None = None, last: Document | None = None
) -> Document:
    """Show the state of the active, shadow and last bundle as the retained topic `model` does."""
    return {"active": active, "shadow": shadow, "last": last}


def deployed_document(reference: str, *, sha256: str, state: str = "active") -> Document:
    """Show one bundle, `name@version`, with its deployment state."""
    return {"model": reference, "sha256": sha256 or None, "state": state}


def dead_letter_document(*, why: str, topic: str, size: int, head: str, count: int, at_utc_ns: int) -> Document:
    """Tell why an input was refused. `head` is its first bytes in base64, `size` its bytes in all, `count` how many yet."""
    return {"why": why, "topic": topic, "size": size, "head": head, "count": count, "ts": format_utc(at_utc_ns)}


def reply_document(*, ok: bool, text: str) -> Document:
    """Answer a command; `text` is empty when it was carried out."""
    return {"ok": ok, "text": text}


def _region(region: Region) -> Document:
    return {"label": region.label, "score": _finite(region.score, digits=6), "box": [int(side) for side in region.box]}


def _timing(timing_ms: Mapping[str, float]) -> Document:
    names = (*TIMINGS, *(name for name in timing_ms if name not in TIMINGS))
    return {name: _finite(timing_ms.get(name)) for name in names}


def _gate(result: Result) -> Document | None:
    order = result.order
    if order.state == "none" and not order.collateral and result.disposition is not Disposition.REJECT:
        return None
    return {"state": order.state, **_moments(result, order), "collateral": order.collateral}


def _moments(result: Result, order: GateOrder) -> Document:
    due_utc_ns = None if order.due_ns is None else result.decided_utc_ns + (order.due_ns - result.decided_ns)
    return {
        "open_count": order.open_count,
        "close_count": order.close_count,
        "due_utc": None if due_utc_ns is None else format_utc(due_utc_ns),
        "delay_ms": None if order.open_ns is None else _finite((order.open_ns - result.decided_ns) / 1e6),
        "window_ms": _finite(order.window_ms),
    }


def _finite(value: float | None, *, digits: int = 3) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)
